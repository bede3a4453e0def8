// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

// In a cold start the credential document is read, a connection to a gateway is opened, and a handshake is made over it.
// Only the handshake needs the document, whose trust domain is part of the server's name. So each upstream's first spare
// begins with its raw connection while the store is being read: one round trip to the gateway less until it is there.
//
// Without spares nothing is opened ahead: in Init nobody is about to dial then, and most such connections would be closed
// unused.

// preconnectFor is how long such a connection may wait, by either clock (R14): as long as Init waits for credentials (R13).
// Afterwards the function runs, and may be frozen, with it open. It must be well under the 15 s that Envoy gives a
// connection to say where it wants to go (listener_filters_timeout), and the 350 s for which NAT remembers a silent one.
const preconnectFor = 2 * time.Second

// preconnected is a raw connection to a gateway, opened ahead of the dial that may use it. Whoever made it closes it. Nil is
// none.
type preconnected struct {
	conn  atomic.Pointer[Conn] // without TLS; nil once it was taken, and if there was none
	clock clock.Clock
	since clock.Instant // before it was opened
}

// beginSpares begins the first spare of every upstream that has some.
func (s *State) beginSpares() {
	for _, p := range s.spares {
		if p != nil {
			p.refill()
		}
	}
}

// dialSpare makes a new connection for later. If there are no credentials yet, it is connected to a gateway while it waits
// for them.
func (s *State) dialSpare(ctx context.Context, upstream int) (*Conn, error) {
	waiting := ctx
	var ahead *preconnected
	if s.usable() == nil {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, preconnectFor)
		defer cancel()
		ahead = s.preconnect(waiting)
		defer ahead.close()
	}
	snap, err := s.Ready(waiting)
	if err != nil {
		return nil, err
	}
	return s.dial(ctx, snap, upstream, ahead)
}

// preconnect opens a raw connection through one of the gateways, chosen as for any dial. That may take longer than the
// document: a dial begun then would wait for the same gateways, and have begun later. If it fails, the dial will too, or
// has better luck.
func (s *State) preconnect(ctx context.Context) *preconnected {
	p := &preconnected{clock: s.settings.clock, since: s.settings.clock.Now()}
	conn, err := s.gateways.connect(ctx, dialTCP, func(_ context.Context, _ int, raw net.Conn) (*Conn, error) {
		return &Conn{wire: newWire(raw, s.bufs)}, nil // all that a race needs of a Conn, which is to reset those that lost
	})
	if err == nil {
		p.conn.Store(conn)
	}
	return p
}

// dial is dialTCP, without the wait if there is a connection to that address which may be used.
func (p *preconnected) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if raw := p.take(addr); raw != nil {
		return raw, nil
	}
	return dialTCP(ctx, addr)
}

// take returns the connection, which is the caller's then, or nil: it is another address's, or not young and sound.
func (p *preconnected) take(addr netip.AddrPort) net.Conn {
	if p == nil {
		return nil
	}
	conn := p.conn.Load()
	if conn == nil || conn.RemoteAddr().String() != addr.String() || !p.conn.CompareAndSwap(conn, nil) {
		return nil
	}
	if p.clock.Now().Sub(p.since) >= preconnectFor || !conn.wire.silent() {
		_ = conn.Reset()
		return nil
	}
	return conn.wire.Conn
}

// close closes the connection if nobody took it.
func (p *preconnected) close() {
	if conn := p.conn.Swap(nil); conn != nil {
		_ = conn.wire.Conn.Close()
	}
}
