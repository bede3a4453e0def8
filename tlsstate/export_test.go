// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
)

// Handshake makes a Conn over any raw connection.
func Handshake(ctx context.Context, raw net.Conn, cfg *tls.Config, bufs *bufpool.Pool) (*Conn, error) {
	return handshake(ctx, raw, cfg, bufs)
}

// Usable is the look-up that every dial begins with.
func (s *State) Usable() *Snapshot { return s.usable() }

// Update makes a document the current one without the schedule, which would not do it every millisecond. One call at a
// time, and no Run.
func (s *State) Update(document []byte) error { return s.update(document) }

// ShareSession makes one upstream's sessions another's too. Before the first dial of either.
func (s *State) ShareSession(from, to int) {
	targets := s.current.Load().targets
	for g := range targets[from].configs {
		targets[to].configs[g].ClientSessionCache = targets[from].configs[g].ClientSessionCache
	}
}

// First is the gateway that is tried first.
func (s *State) First() int { return int(s.gateways.first.Load()) }

// SetFirst makes a gateway the one that is tried first.
func (s *State) SetFirst(n int) { s.gateways.first.Store(int32(n)) }

// Race is the way in which gateways and addresses are tried.
func Race(ctx context.Context, n int, try func(ctx context.Context, i int) (*Conn, error)) (*Conn, error) {
	return race(ctx, n, try)
}

// Connect connects through the gateways as a dial does, over what open makes instead of TCP connections, and without TLS.
func (s *State) Connect(ctx context.Context, open func(context.Context, netip.AddrPort) (net.Conn, error)) (*Conn, error) {
	return s.gateways.connect(ctx, open, func(_ context.Context, _ int, raw net.Conn) (*Conn, error) {
		return &Conn{wire: newWire(raw, s.bufs)}, nil
	})
}
