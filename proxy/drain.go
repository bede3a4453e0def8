// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

const (
	// drainEvery is how often a draining server looks for connections that fell silent.
	drainEvery = 20 * time.Millisecond

	// silentInDrain is how long nothing may move on a connection before a draining server takes it for silent: several
	// scheduling periods of a small function, a fraction of the 2 s that Lambda gives.
	silentInDrain = 150 * time.Millisecond
)

// drain is the rest of Shutdown: it waits for connections on which bytes move, ends the others, and all of them when ctx
// ends.
func (s *Server) drain(ctx context.Context) error {
	seen := make(map[*conn]*drainState)
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		conns := s.connections()
		if len(conns) == 0 {
			return nil
		}
		now := s.cfg.Clock.Now()
		for _, c := range conns {
			st := seen[c]
			if st == nil {
				st = new(drainState)
				seen[c] = st
			}
			if st.silentFor(c, now) >= st.mark.patience() {
				c.kill(CauseShutdown)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, c := range conns {
				c.kill(CauseShutdown)
			}
			s.stopDial() // ends what is still dialled, or flushed
			s.relaying.Wait()
			return ctx.Err()
		}
	}
}

// drainState is what a drain remembers of a connection.
type drainState struct {
	mark mark
	at   clock.Instant
}

// mark changes as long as something happens on a connection: bytes are relayed, or what was relayed to the mesh is taken
// by it, or the function's bytes still wait to be read.
type mark struct {
	sent, received  uint64
	queued, waiting int
}

// patience is how long a mark may stay the same until the connection counts as silent. A slow receiver takes what is
// queued for it in lumps: its kernel opens the window by a part of a buffer of megabytes at a time.
func (m mark) patience() time.Duration {
	if m.queued > 0 || m.waiting > 0 {
		return killedPatience
	}
	return silentInDrain
}

func (st *drainState) silentFor(c *conn, now clock.Instant) time.Duration {
	m := mark{waiting: receiveQueue(c.down)}
	if c.established.Load() {
		m.sent, m.received, m.queued = c.sent.progress(), c.received.progress(), sendQueue(c.up)
	} else if m.waiting > 0 {
		return 0 // the function's bytes wait for the dial, which is bounded
	}
	if st.at.IsZero() || m != st.mark {
		st.mark, st.at = m, now
	}
	return now.Sub(st.at)
}
