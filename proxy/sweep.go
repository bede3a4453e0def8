// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"net"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

// What ends an open connection because of time is decided here, by one goroutine that looks at all of them; in a shutdown
// drain.go decides too. While none is open, and no memory waits to be given back, it sleeps. A look at an idle connection is a
// few loads; the kernel is asked only for what nobody else knows: what a spliced direction has moved, whether what was sent is
// acknowledged, and whether the silence of a half-closed connection is that of a slow receiver.

const (
	// sweepEvery is how exact the timeouts are.
	sweepEvery = 200 * time.Millisecond

	// halfCloseTimeout is how long the other direction may be silent after one has ended (R6). It is also how long a stream's
	// last bytes wait for a peer that takes none of them: see flush.
	halfCloseTimeout = time.Minute

	// frozenSilence is how long a connection may be silent, over a freeze, and be used again. NAT gateways and network
	// load balancers forget a flow after 350 s without saying so: the next request would wait for its own timeout (R19).
	frozenSilence = 300 * time.Second

	// ackTimeout is how long what was sent upstream may be in flight without any acknowledgement (R19). It is counted
	// while the process runs. TCP_USER_TIMEOUT is not used for it: since Linux 5.11 it also ends a connection whose peer
	// is alive and merely does not read for so long.
	ackTimeout = 10 * time.Second

	// trimAfter is how many looks in a row must have seen nothing move before memory is given back: 5 s of running time. It is
	// counted in looks because a thaw, after which the function waits for its first call, is no time to collect a heap.
	trimAfter = 25

	// burst is how many connections leave enough garbage behind to collect it when nothing moves: a collection costs as much
	// as four of them. 2,000 that were opened at once and stay take 23.7 KiB each before, and 20.4 KiB after.
	burst = 200

	// ackEvery is how often the kernel is asked about a connection with something in flight.
	ackEvery = time.Second
)

// sweepState is what the sweep remembers of a connection. Only a sweep touches it, but for born.
type sweepState struct {
	born clock.Instant // when it was accepted

	sent, received uint64        // as last seen
	sentAt         clock.Instant // when they last changed; at first, when the connection was accepted
	receivedAt     clock.Instant

	inFlight bool          // something was written, and not known to be acknowledged
	asked    time.Duration // running time until the kernel is asked again
	acked    uint64        // as the kernel last said
	answers  uint64        // likewise
	unacked  time.Duration // running time for which it said nothing better
}

// sweeps runs until ctx ends.
func (s *Server) sweeps(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if !s.sweepWhileOpen(ctx) {
			return
		}
	}
}

// sweepWhileOpen returns true when no connection is open any more and nothing is left to give back, and false when ctx ended.
func (s *Server) sweepWhileOpen(ctx context.Context) bool {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		s.cfg.Watch.Check()
		open, still := s.look(false)
		if still >= trimAfter && s.swollen() {
			s.trimmed = s.stats.accepted.Load()
			s.cfg.Buffers.Trim()
		}
		if open == 0 && !s.swollen() {
			return true
		}
	}
}

// swollen reports whether streams or many connections have left memory to give back. For the sweeping goroutine alone.
func (s *Server) swollen() bool {
	return s.cfg.Buffers.Grown() || s.stats.accepted.Load()-s.trimmed >= burst
}

// thawed is called after a freeze, before anything is done with a connection from before it.
func (s *Server) thawed(time.Duration) { s.look(true) }

// look sweeps all connections once. It returns how many there are, and in how many looks in a row nothing has moved. After a
// freeze, movement since the last look is taken to have been before it.
func (s *Server) look(thawed bool) (open, still int) {
	s.sweepMu.Lock()
	defer s.sweepMu.Unlock()
	now, last, ran := s.cfg.Clock.Now(), s.lastSweep, sweepEvery
	if thawed {
		ran = 0
	}
	s.lastSweep = now
	conns := s.connections()
	s.still++
	if thawed {
		s.still = 0
	}
	for _, c := range conns {
		if !c.established.Load() {
			s.still = 0 // the function waits for it
			if thawed {
				c.redial()
			}
		} else {
			moved := now
			if thawed {
				moved = c.sweep.born
				if last.Sub(moved) > 0 {
					moved = last
				}
			}
			if c.observe(moved) {
				s.still = 0
			}
			if cause, due := c.judge(now, ran, thawed); due {
				c.kill(cause)
			}
		}
	}
	return len(conns), s.still
}

// observe notes what has moved, as of the instant given, and whether anything has.
func (c *conn) observe(at clock.Instant) (moved bool) {
	w := &c.sweep
	if n := c.sent.progress(); n != w.sent {
		w.sent, w.sentAt, w.inFlight, moved = n, at, true, true
	}
	if n := c.received.progress(); n != w.received {
		w.received, w.receivedAt, moved = n, at, true
	}
	return moved
}

// progress grows with every byte that the direction moves. A spliced direction does not see its bytes, the kernel does.
func (d *direction) progress() uint64 {
	if _, ok := d.from.(*net.TCPConn); ok {
		if _, ok := d.to.(*net.TCPConn); ok && !d.ended.Load() {
			return tcpStateOf(d.from).received
		}
	}
	return uint64(d.moved.Load())
}

// judge decides whether the connection has to end. ran is for how long the process ran since the last look.
func (c *conn) judge(now clock.Instant, ran time.Duration, thawed bool) (Cause, bool) {
	w, cfg := &c.sweep, &c.srv.cfg
	sent, received := now.Sub(w.sentAt), now.Sub(w.receivedAt)
	silent := min(sent, received)
	switch {
	case thawed && silent >= frozenSilence:
		return CauseFrozen, true
	case cfg.MaxAge > 0 && now.Sub(w.born) >= cfg.MaxAge:
		return CauseAge, true
	case cfg.IdleTimeout > 0 && silent >= cfg.IdleTimeout:
		return CauseIdle, true
	case c.sent.ended.Load() && received >= halfCloseTimeout && now.Sub(c.received.blockedAt(now)) >= halfCloseTimeout,
		c.received.ended.Load() && sent >= halfCloseTimeout && now.Sub(c.sent.blockedAt(now)) >= halfCloseTimeout:
		return CauseHalfClosed, c.running.Load() > 0
	case w.inFlight && c.unacknowledged(ran):
		return CauseUnacknowledged, true
	}
	return "", false
}

// blockedAt returns when the direction was last seen to wait for its receiver, which is slow, and so was not silent: now, if it
// does. When the receiver goes on, there is a moment in which nothing is queued any more and nothing has moved yet.
func (d *direction) blockedAt(now clock.Instant) clock.Instant {
	if d.blocked() {
		d.waited = now
	}
	return d.waited
}

func (d *direction) blocked() bool { return sendQueue(d.to) > 0 }

// unacknowledged reports whether the upstream leg has had something in flight for ackTimeout without an answer of any
// kind from the other side's kernel: of bytes, or of a probe of a window that is closed. A peer that does not read answers the
// probes. They grow rare, up to two minutes apart, and that is how long such a path may be dead unnoticed. What the peer sends
// of its own is no answer: when the path is dead in one direction, it goes on to send again what it thinks was lost.
func (c *conn) unacknowledged(ran time.Duration) bool {
	w := &c.sweep
	if w.asked -= ran; w.asked > 0 {
		return false
	}
	w.asked = ackEvery
	st := tcpStateOf(c.up)
	switch {
	case sendQueue(c.up) == 0:
		w.inFlight, w.unacked = false, 0
	case !st.inFlight && !st.probing:
		w.unacked = 0
	case st.acked != w.acked, st.answers != w.answers:
		w.unacked = 0
	default:
		w.unacked += ackEvery
	}
	w.acked, w.answers = st.acked, st.answers
	return w.unacked >= c.srv.ackTimeout
}
