// SPDX-License-Identifier: MPL-2.0

// Package tlsstate is what this process trusts right now, and the connections that rest on it.
//
// A [State] reads a credential document from a [Source], turns it into an immutable [Snapshot] (our leaf, all roots, one
// tls.Config per upstream and gateway), and publishes it by swapping one pointer. A dial loads the pointer once:
//
//	state, err := tlsstate.New(tlsstate.Config{Upstreams: upstreams, Gateways: gateways, Source: store})
//	go state.Run(ctx)                     // reads, and reads again when it is due
//	conn, err := state.Dial(ctx, 0)       // mTLS to the first upstream, through a gateway
//	…
//	state.Close()                         // ends the spare connections
//
// Concepts:
//
//   - A document that cannot be used changes nothing: the last good snapshot serves until its leaf expires (rule R12).
//   - The peer's SPIFFE ID is checked on every connection, resumed ones too, together with its chain and validity (R1).
//     Nothing switches that off.
//   - A [Conn] tells a stream that its peer ended from one that was cut (R5), carries a half-close, and can wait for
//     bytes without holding a buffer.
//   - Time is judged when it matters, by both clocks (R14). [State.Thawed] makes a refresh that became due in a freeze
//     start at once.
//
// The caller owns what Dial returns. The State owns its spare connections and, while Run is called, one goroutine for each of
// them and a few for look-ups and handshakes, each bounded in time.
//
// Not here: listening and relaying (package proxy, which knows no TLS), and the store's protocol (the Source).
package tlsstate
