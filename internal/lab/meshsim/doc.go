// SPDX-License-Identifier: MPL-2.0

// Package meshsim is the mesh side of the lab: a certificate authority shaped
// like Consul's, sidecars that terminate mutual TLS and enforce intentions, and
// a mesh gateway that routes by server name without decrypting, all on loopback
// and all with real sockets, real TLS and real half-closes.
//
//	m, err := meshsim.New(meshsim.Config{})
//	defer m.Close()
//	web, err := m.AddService("web", meshsim.Echo) // sidecar and route
//	doc, err := m.Document("my-function")         // what the function would read from the store
//	// dial m.Gateway.Addr() with doc and the SNI of web
//
// # Parts
//
//   - [CA] issues leaves that carry a URI name only, rotates and prunes its
//     roots, and makes bad certificates on request ([Flaw]).
//   - [Sidecar] is a destination: it requires a client certificate, checks it
//     against the roots of the moment, asks its [Intentions], and hands the
//     connection to a [Handler].
//   - [Gateway] peeks at the ClientHello (clienthello.go), picks an
//     address from its [Routes] and relays. Both legs are plain TCP, so the
//     kernel splices, unless a fault has to look at the bytes.
//   - [FaultPlan] and the gateway's methods in faults.go break things: new
//     connections, open ones, or the listener, at any time.
//   - [Mesh] ties one CA, gateways and services together.
//
// # A rotation, step by step
//
// [CA.Rotate] adds a root; every sidecar trusts it from its next handshake on,
// but goes on showing the leaf it has until [Sidecar.Reload]. [CA.Prune] drops
// all roots but the active one. [Mesh.Rotate] does the first two at once.
//
// # Ownership
//
// New, NewSidecar and NewGateway return something that already listens; Close
// ends its listener and connections (by reset) and waits for its goroutines. A
// handler that blocks on anything but its connection therefore blocks Close.
// A Mesh closes everything that was added to it.
//
// # What it is not
//
// It is not Envoy and not Consul: there is no xDS, no catalog, no HTTP filter,
// no L7 intention. Where it imitates one of them, the comment there says which
// behaviour and where that is known from. It injects faults at byte level
// from user space, and on Linux drops packets with a socket filter; it does not
// delay the TCP handshake itself. Nothing in it needs package testing; see
// internal/certtest for the helpers that do.
package meshsim
