// SPDX-License-Identifier: MPL-2.0

// Package tlspeers holds tlsstate's connections against TLS servers that are not Go's: OpenSSL's s_server, HAProxy and nginx as
// they are installed, and Consul's built-in proxy, with the lab's sidecar beside them. There is nothing to import.
//
//	go test -v ./internal/tlspeers                   # skips, by name, what is not installed
//	TLSPEERS_REQUIRED=1 go test ./internal/tlspeers   # fails instead
//	go test ./internal/tlspeers -update               # writes the table of docs/tls-peers.md
//
// Of each peer and version of TLS it asks: does a session resume, what does a refused client certificate look like, does a
// KeyUpdate pass, who sees which end of a stream. What our side must get right is asserted; what a peer is free to do is
// only written down.
//
// Not here: speed (bench), the relay (proxy), and Envoy, which nobody had at hand.
package tlspeers
