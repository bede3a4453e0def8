// SPDX-License-Identifier: MPL-2.0

// Package proxy carries TCP connections from a function to its upstreams. It moves bytes and ends, and knows no TLS: an
// upstream is a name and a way to dial it.
//
//	srv := proxy.New(proxy.Config{})
//	_, err := srv.Listen(ctx, "127.0.0.1:8080", proxy.Route{Name: "web", Dial: dialWeb})
//	go srv.Serve(ctx)
//	…
//	err = srv.Shutdown(ctx) // drains
//
// Concepts:
//
//   - Downstream is the function's side of a connection, upstream the mesh's. Each is a leg, each has its own two ends.
//   - A half-close is carried in both directions (rule R6). A leg is closed in order only if all that it was to be sent
//     was sent; if not, it is reset, after the bytes that did arrive (R5). A function is never shown a clean end of
//     something that was cut, refused or never reached (R9).
//   - A leg may offer more than net.Conn, and what it offers is used: see [CloseWriter], [Resetter] and [Waiter]. Two raw
//     TCP legs are spliced in the kernel.
//   - One goroutine, not a timer per connection, looks at all connections several times a second, and judges their ages
//     by both clocks (R14): see sweep.go. In a shutdown, drain.go says who may go on.
//
// The server owns the connections it accepts and those it dials; it closes both. Memory, descriptors and time are
// bounded by [Config].
//
// Not here: TLS, identities, spare connections (package tlsstate), HTTP, UDP, configuration.
package proxy
