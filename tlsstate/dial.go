// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

// Dial returns an mTLS connection to the upstream with that index: a spare one if there is one, else a new one. It waits
// for valid credentials, looks up the gateways' names, connects and shakes hands, all within ctx. The caller owns the
// connection.
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

// WarmUp opens the spare connections of all upstreams and returns when they are there, could not be opened, or ctx ends.
// What it began goes on after that.
func (s *State) WarmUp(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range s.spares {
		if p != nil {
			all.Go(func() { p.warmUp(ctx) })
		}
	}
	all.Wait()
}

// Close ends the spare connections, and opens no more. Connections that were handed out are their owners'.
func (s *State) Close() {
	for _, p := range s.spares {
		if p != nil {
			p.close()
		}
	}
	s.gateways.cancel()
}

// Stats are counts since the state was made.
type Stats struct {
	Handshakes int64 // that succeeded, spare connections' included
	Resumed    int64 // of these, those that resumed a session
	Failures   int64 // dials that failed
	Spares     int64 // connections that needed no handshake when they were asked for

	RefreshFailures int64         // reads of the document that failed, or gave none that is of use
	RefreshAge      time.Duration // how long ago the last one that succeeded was begun; negative if none has
}

// Stats reads the counts.
func (s *State) Stats() Stats {
	st := Stats{
		Handshakes: s.stats.handshakes.Load(), Resumed: s.stats.resumed.Load(), Failures: s.stats.failures.Load(), Spares: s.stats.spares.Load(),
		RefreshFailures: s.stats.refreshFailures.Load(), RefreshAge: -1,
	}
	if at := s.stats.refreshed.Load(); at != nil {
		st.RefreshAge = s.settings.clock.Now().Sub(*at)
	}
	return st
}

type counters struct {
	handshakes, resumed, failures, spares, refreshFailures atomic.Int64
	refreshed                                              atomic.Pointer[clock.Instant]
}
