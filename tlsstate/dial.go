// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"fmt"
	"net"
)

// Dial returns an mTLS connection to the upstream with that index in Config.Upstreams: a spare one if there is one, else a new
// one. It waits for valid credentials, looks up the gateways' names, connects and shakes hands, all within ctx. The caller owns
// the connection.
//
// The error is ErrNoCredentials; or why nobody can reach this upstream, ErrPeerIncomplete or a name that package mesh refuses; or
// it names the upstream and says what became of each gateway: ErrNoGateway, ErrIdentity, or an error of crypto/tls.
func (s *State) Dial(ctx context.Context, upstream int) (*Conn, error) {
	snap, err := s.Ready(ctx)
	if err != nil {
		return nil, err
	}
	p := s.spares[upstream]
	if p == nil {
		return s.dial(ctx, snap, upstream, nil)
	}
	conn := p.take(snap.generation)
	if conn == nil {
		conn = p.join(ctx, snap.generation)
	}
	if conn != nil {
		s.stats.spares.Add(1)
	} else if conn, err = s.dial(ctx, snap, upstream, nil); err != nil {
		return nil, err
	}
	p.connected(conn)
	return conn, nil
}

// dial makes a new connection, over the raw one that was opened ahead if it can.
func (s *State) dial(ctx context.Context, snap *Snapshot, upstream int, ahead *preconnected) (*Conn, error) {
	t := &snap.targets[upstream]
	if t.err != nil {
		return nil, t.err
	}
	conn, err := s.gateways.connect(ctx, ahead.dial, func(ctx context.Context, g int, raw net.Conn) (*Conn, error) {
		return handshake(ctx, raw, t.configs[g], s.bufs)
	})
	if err != nil {
		s.stats.failures.Add(1)
		return nil, fmt.Errorf("dialling %s: %w", t.sni, err)
	}
	conn.generation = snap.generation
	s.stats.handshakes.Add(1)
	if s.shook != nil {
		s.shook(conn.shook)
	}
	if conn.resumed {
		s.stats.resumed.Add(1)
	}
	return conn, nil
}
