// SPDX-License-Identifier: MPL-2.0

// Package mesh holds the names of a Consul service mesh and the wire contract
// built from them: which service an upstream means, the server name that makes
// a mesh gateway route to it, the SPIFFE ID that its certificate must carry,
// and the document in which a function's own credentials are stored.
//
//	u, err := mesh.ParseUpstream("billing.payments:8080")
//	sni, err := mesh.ServiceSNI(u.Service(), "dc1", trustDomain)
//	want, err := mesh.ServiceID(u.Service(), "dc1", trustDomain)
//	// dial the gateway with sni.String(), then demand
//	got, err := mesh.ParseID(leaf.URIs[0])
//	ok := got.Matches(want)
//
// [Service], [Upstream], [SNI] and [ID] are opaque values. Only the parsers and
// constructors here build them, so one that is not the zero value is legal; they
// compare with == and serve as map keys. Each zero value names nothing, prints as
// the empty string and is accepted by no constructor.
//
// # Alphabet
//
// Each part of a name (service, namespace, partition, datacenter, peer) holds
// ASCII letters, digits, "-" and "_". Parameter Store names, SPIFFE path segments
// and Lambda function names agree on that set, and it leaves the separators of the
// upstream grammar, of a server name and of a URI path to their purpose. Consul
// takes more (a dot, a space) in a service name, with a warning; such names are
// refused here, because no server name or unescaped path could carry them
// unambiguously. Upper case is kept as spelled, as Consul keeps it. Envoy
// lower-cases a server name that it receives, so a gateway built on it may not find
// a service that is registered in upper case.
//
// # What this package is not
//
// It does no I/O and no cryptography, keeps no state and starts no goroutine:
// there is nothing to close. It does not say which certificates are trusted or
// when one has expired, and it does not resolve or dial anything.
package mesh
