// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

// Spare connections are handshaken ahead of need, so that a new connection of the function costs no handshake. They cost
// the destination an idle connection for each upstream and sandbox, and behind a sidecar often one into the application.
// So there are few of them, and only where they are used:
//
//   - One is opened before the function starts, and another a moment after one was handed out or a connection was dialled
//     without one: answerFirst after its first answer, or after refillAfter, so that the handshake does not compete for the CPU
//     with the connection that is being waited for, or with the function that has its answer.
//   - One that nobody takes for the maximum idle time is closed, and so is one that its peer or something on the way has
//     ended. Each is replaced; after two in a row that ended unused, none is until the function connects again. That also
//     bounds what a destination that closes or refuses idle connections is asked.
//   - One of an older generation is never handed out. When a rotation swaps the snapshot, all of those are closed at once, and
//     replaced by one of the new generation refillAfter later (R2): see replace.
//
// A spare is watched by a goroutine that is parked in a read, which nothing less can replace: seen from the socket, a
// session ticket and a close_notify look alike (R15). What a server that speaks first has sent is kept (R8).

const (
	// refillAfter is how long a refill waits for the first answer to arrive. At 20 ms round trip it leaves time for a
	// handshake of two round trips within 60 ms of the connection before.
	refillAfter = 5 * time.Millisecond

	// answerFirst is how long a refill leaves the function alone with its first answer: some three times what it takes to wake a
	// process that waits for it. Without it, the slowest of 100 new connections took 1.4 ms at the CPU share of 128 MB where it
	// takes 0.9, and the median at full CPU 0.36 ms where it takes 0.30. With 1 ms there is no more to be had, and connections
	// that come one right after the other are 10 % fewer: the refill meets the handshake of the next one.
	answerFirst = 300 * time.Microsecond

	// joinFor is how old the dial of a spare may grow until a dial of the function no longer waits for it, and goes its own
	// way: one that takes longer is likely stuck.
	joinFor = stagger

	// spareTimeout bounds the dial of a spare. Nobody waits for it.
	spareTimeout = 5 * time.Second

	// maxUnused is how many spares in a row may end unused until no more are opened.
	maxUnused = 2

	// maxEarly bounds what a server may send before the function has: a banner, not a stream.
	maxEarly = 16 << 10
)

// sparesConfig says how many spares there are and how one is made. All of it is needed; the zero clock.Clock is the system's.
type sparesConfig struct {
	want    int
	maxIdle time.Duration
	clock   clock.Clock
	log     *slog.Logger
	dial    func(context.Context) (*Conn, error)
}

// spares are the spare connections of one upstream.
type spares struct {
	sparesConfig
	ctx    context.Context // of the dials; ends with close
	cancel context.CancelFunc

	mu      sync.Mutex
	ready   []*spare
	pending *pendingSpare // the one being dialled, or nil
	armed   *time.Timer   // fires the refill; nil if none is due
	unused  int           // spares that ended unused since the function connected last
	oldest  uint64        // generations before this one are not to be used
	closed  bool
	running sync.WaitGroup // watch and refill
}

// spare is a parked connection.
type spare struct {
	conn    *Conn
	since   clock.Instant
	taken   atomic.Bool   // by a dial; set with the lock held
	timer   *time.Timer   // ends it when it is too old
	watched chan struct{} // closed when nobody is parked in it any more
}

// pendingSpare is a spare that is being dialled.
type pendingSpare struct {
	since   clock.Instant
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when it is there, or failed
	conn    *Conn         // set before done is closed, if it was claimed
	claimed bool          // a dial waits for it
}

func newSpares(cfg sparesConfig) *spares {
	p := &spares{sparesConfig: cfg}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// take returns a connection that is handshaken, alive, young and of that generation; nil if there is none.
func (p *spares) take(generation uint64) *Conn {
	s := p.pick(generation)
	if s == nil {
		return nil
	}
	if s.conn.hasEarly.Load() {
		// The reader that is parked would keep what has arrived until more does. One that has read nothing may stay: whoever
		// reads next waits for the same bytes.
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
		<-s.watched
		_ = s.conn.SetReadDeadline(time.Time{})
	}
	return s.conn
}

// pick takes a spare off the list.
func (p *spares) pick(generation uint64) *spare {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeOldLocked()
	for i, s := range p.ready {
		if s.conn.generation == generation && s.conn.wire.quiet() {
			s.taken.Store(true)
			s.timer.Stop()
			p.ready = slices.Delete(p.ready, i, i+1)
			return s
		}
	}
	return nil
}

// join waits for a spare that is being dialled already, if there is one that nobody else waits for. It returns nil if
// that failed, or takes too long.
func (p *spares) join(ctx context.Context, generation uint64) *Conn {
	p.mu.Lock()
	pending := p.pending
	var left time.Duration
	if pending != nil && !pending.claimed {
		left = joinFor - p.clock.Now().Sub(pending.since)
	}
	if left <= 0 {
		p.mu.Unlock()
		return nil
	}
	pending.claimed = true
	p.mu.Unlock()

	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-pending.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	p.mu.Lock()
	conn := pending.conn
	pending.claimed = false // from now on it is a spare like any other
	p.mu.Unlock()
	if conn != nil && (conn.generation != generation || conn.wire.closed()) {
		_ = conn.Reset()
		return nil
	}
	return conn
}

// connected notes that the function got a connection, and arms the refill: it is due answerFirst after the connection's first
// answer, or after refillAfter.
func (p *spares) connected(conn *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unused = 0
	if p.closed || p.armed != nil || len(p.ready) >= p.want {
		return
	}
	armed := time.AfterFunc(refillAfter, p.refill)
	p.armed = armed
	conn.onFirstRead(func() { p.answered(armed) })
}

// answered makes the refill that a connection has armed due soon: what the function waited for is there. If that is another one by
// now, the function waits for something else.
func (p *spares) answered(armed *time.Timer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed == armed {
		armed.Reset(answerFirst)
	}
}

// refill dials what is missing, one spare at a time, unless that is under way.
func (p *spares) refill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed != nil {
		p.armed.Stop()
		p.armed = nil
	}
	p.refillLocked()
}

// refillLocked is refill with the lock held. It returns the spare that is being dialled, or nil if none is wanted.
func (p *spares) refillLocked() *pendingSpare {
	if p.pending == nil && !p.closed && len(p.ready) < p.want && p.unused < maxUnused {
		ctx, cancel := context.WithCancelCause(p.ctx)
		p.pending = &pendingSpare{since: p.clock.Now(), cancel: cancel, done: make(chan struct{})}
		p.running.Add(1)
		go p.dialSpare(ctx, p.pending)
	}
	return p.pending
}

// dialSpare dials one, and the next one if that succeeded and more are wanted.
func (p *spares) dialSpare(ctx context.Context, pending *pendingSpare) {
	defer p.running.Done()
	defer pending.cancel(nil)
	dialling, cancel := context.WithTimeout(ctx, spareTimeout)
	conn, err := safely(dialling, p.dial)
	cancel()

	if errors.Is(err, errPanic) { // before the lock: a log that blocks shall not hold up dials
		p.log.Error("a spare connection could not be dialled", "error", err)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = nil
	defer close(pending.done)
	switch {
	case err != nil && context.Cause(ctx) == errThawed:
		p.refillLocked()
	case errors.Is(err, ErrNoCredentials): // nobody was asked; the next generation begins anew
	case err != nil:
		p.unused++ // what cannot be reached is not asked again until the function was there, and is told why by a dial of its own
	case pending.claimed:
		pending.conn = conn
	case p.closed:
		_ = conn.Reset()
	case conn.generation < p.oldest:
		_ = conn.Reset()
		p.refillLocked()
	default:
		p.parkLocked(conn)
		p.refillLocked()
	}
}

// parkLocked makes a connection a spare.
func (p *spares) parkLocked(conn *Conn) {
	s := &spare{conn: conn, since: p.clock.Now(), watched: make(chan struct{})}
	s.timer = time.AfterFunc(p.maxIdle, p.review)
	p.ready = append(p.ready, s)
	p.running.Add(1)
	go p.watch(s)
}

// watch is parked in a read of the spare until that is taken or ends.
func (p *spares) watch(s *spare) {
	defer p.running.Done()
	err := s.conn.park(&s.taken)
	close(s.watched)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || s.taken.Load() || !p.removeLocked(s) {
		return
	}
	_ = s.conn.Reset()
	p.unused++
	p.refillLocked()
}

// removeLocked takes a spare off the list, and reports whether it was on it.
func (p *spares) removeLocked(s *spare) bool {
	i := slices.Index(p.ready, s)
	if i < 0 {
		return false
	}
	p.ready = slices.Delete(p.ready, i, i+1)
	s.timer.Stop()
	return true
}

// thawed closes the spares that are too old after a freeze. A dial that was under way in it is likely stuck: it starts again.
func (p *spares) thawed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending != nil {
		p.pending.cancel(errThawed)
	}
	p.closeOldLocked()
	p.refillSoonLocked()
}

// refillSoonLocked makes the refill due after refillAfter. A thaw and a swap concern all upstreams at once, and the function
// may be waiting for one of them: its handshake shall not share the CPU with those of all the others' spares.
func (p *spares) refillSoonLocked() {
	if !p.closed && p.armed == nil {
		p.armed = time.AfterFunc(refillAfter, p.refill)
	}
}

// review closes the spares that are too old, and replaces them.
func (p *spares) review() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeOldLocked()
	p.refillLocked()
}

func (p *spares) closeOldLocked() {
	now := p.clock.Now()
	p.unused += p.closeLocked(func(s *spare) bool { return now.Sub(s.since) >= p.maxIdle })
}

// replace closes the spares of generations before that one, and opens what is missing: a rotation has swapped the snapshot. One
// that is being dialled just now is judged when it is there.
func (p *spares) replace(generation uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oldest = generation
	if p.pending != nil {
		p.pending.since = p.clock.Now() // it may have waited for this generation's credentials
	}
	p.closeLocked(func(s *spare) bool { return s.conn.generation < generation })
	p.refillSoonLocked()
}

// closeLocked closes the spares for which end is true, and returns their number.
func (p *spares) closeLocked(end func(*spare) bool) int {
	before := len(p.ready)
	p.ready = slices.DeleteFunc(p.ready, func(s *spare) bool {
		if !end(s) {
			return false
		}
		s.timer.Stop()
		p.running.Go(s.end)
		return true
	})
	return before - len(p.ready)
}

// end closes the connection. That may wait for room to say so, which the lock must not.
func (s *spare) end() { _ = s.conn.Close() }

// warmUp opens spares and waits until there are as many as wanted, one failed, or ctx ends.
func (p *spares) warmUp(ctx context.Context) {
	for {
		p.mu.Lock()
		failures := p.unused
		pending := p.refillLocked()
		p.mu.Unlock()
		if pending == nil {
			return
		}
		select {
		case <-pending.done:
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		failed := p.unused > failures
		p.mu.Unlock()
		if failed {
			return
		}
	}
}

// close ends all spares, for good, and waits until they have ended.
func (p *spares) close() {
	p.cancel()
	p.mu.Lock()
	p.closed = true
	if p.armed != nil {
		p.armed.Stop()
		p.armed = nil
	}
	p.closeLocked(func(*spare) bool { return true })
	p.mu.Unlock()
	p.running.Wait()
}
