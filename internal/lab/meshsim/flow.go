// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"cmp"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lingerTime is how long a cut connection goes on reading, so that what the
// other side still sends does not turn the FIN into a RST under way.
const lingerTime = time.Second

// flow is one connection through a gateway: two TCP legs and the plan for
// them. Two pumps carry it, one for each direction. To change the plan under a
// pump that is blocked, perhaps inside splice, replan stores the new one and lets the
// pending reads time out; a read that times out has lost no byte.
type flow struct {
	client  *net.TCPConn
	started time.Time
	plan    atomic.Pointer[flowPlan]
	active  atomic.Int64  // when a byte was last seen in user space, as time since started
	closed  chan struct{} // closed by abort and close
	once    sync.Once

	mu      sync.Mutex
	backend *net.TCPConn // nil until routed
}

// flowPlan is the plan in force for a flow. It is immutable.
type flowPlan struct {
	FaultPlan
	cut       bool          // both ends got FIN; discard what still comes
	forgotten bool          // nothing may leave any more
	replaced  chan struct{} // closed when another plan is in force
}

func newFlow(client *net.TCPConn, p FaultPlan) *flow {
	f := &flow{client: client, started: time.Now(), closed: make(chan struct{})}
	f.plan.Store(&flowPlan{FaultPlan: p, replaced: make(chan struct{})})
	return f
}

// replan puts p in force and wakes the pumps. A flow that was cut or forgotten
// stays so.
func (f *flow) replan(p flowPlan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.plan.Load()
	if old.cut || old.forgotten {
		return
	}
	p.replaced = make(chan struct{})
	f.plan.Store(&p)
	close(old.replaced)
	if f.backend != nil {
		// After the store: a pump clears its deadline before it loads the plan.
		_ = f.client.SetReadDeadline(pastDeadline)
		_ = f.backend.SetReadDeadline(pastDeadline)
	}
}

// forget stops all traffic, as if the network did.
func (f *flow) forget() {
	_ = dropIncoming(f.client, true) // without it, not pumping has to do
	stall := ByteFault{Kind: StallBytes}
	f.replan(flowPlan{FaultPlan: FaultPlan{Up: stall, Down: stall}, forgotten: true})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.backend != nil {
		_ = dropIncoming(f.backend, true)
	}
}

// end ends both legs. It does nothing to a forgotten flow.
func (f *flow) end(how End) {
	if f.plan.Load().forgotten {
		return
	}
	if how == EndRST {
		f.abort()
		return
	}
	f.mu.Lock()
	backend := f.backend
	f.mu.Unlock()
	if backend == nil {
		f.close()
		return
	}
	f.replan(flowPlan{cut: true})
	_ = f.client.CloseWrite()
	_ = backend.CloseWrite()
}

// abort resets both legs, unless they are closed already.
func (f *flow) abort() { f.once.Do(func() { f.shut(reset) }) }

// close closes both legs, unless that was done.
func (f *flow) close() { f.once.Do(func() { f.shut(func(c *net.TCPConn) { _ = c.Close() }) }) }

func (f *flow) shut(with func(*net.TCPConn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.closed)
	with(f.client)
	if f.backend != nil {
		with(f.backend)
	}
}

// peer returns the address of the leg to the destination, "" before there is one.
func (f *flow) peer() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.backend == nil {
		return ""
	}
	return f.backend.LocalAddr().String()
}

// touch notes that bytes were seen.
func (f *flow) touch() { f.active.Store(int64(time.Since(f.started))) }

// idleFor returns for how long nothing has come from either side. Where the
// kernel does not say, bytes that were spliced do not count.
func (f *flow) idleFor() time.Duration {
	idle := time.Since(f.started) - time.Duration(f.active.Load())
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range []*net.TCPConn{f.client, f.backend} {
		if c == nil {
			continue
		}
		if d, ok := sinceReceived(c); ok {
			idle = min(idle, d)
		}
	}
	return idle
}

func sortByAge(flows []*flow) {
	slices.SortFunc(flows, func(a, b *flow) int {
		return cmp.Or(a.started.Compare(b.started), cmp.Compare(a.client.RemoteAddr().String(), b.client.RemoteAddr().String()))
	})
}

// relay carries bytes between the client and backend, of which it takes over,
// until both directions have ended. hello was read from the client already.
func (f *flow) relay(backend *net.TCPConn, hello []byte) {
	f.mu.Lock()
	select {
	case <-f.closed:
		f.mu.Unlock()
		reset(backend)
		return
	default:
	}
	f.backend = backend
	if f.plan.Load().forgotten {
		_ = dropIncoming(backend, true)
	}
	f.mu.Unlock()
	up := &pump{flow: f, src: f.client, dst: backend, head: hello, fault: func(p *flowPlan) ByteFault { return p.Up }}
	down := &pump{flow: f, src: backend, dst: f.client, fault: func(p *flowPlan) ByteFault { return p.Down }}
	up.back, down.back = down, up
	var wg sync.WaitGroup
	wg.Add(1)
	go down.runThen(wg.Done)
	up.run()
	wg.Wait()
}

// pump carries one direction of a flow.
type pump struct {
	flow     *flow
	src, dst *net.TCPConn
	fault    func(*flowPlan) ByteFault
	back     *pump       // the other direction
	ended    atomic.Bool // its end of stream was passed on

	plan *flowPlan
	head []byte     // read from src, not passed on yet
	sent int64      // bytes passed on under plan
	line *delayLine // nil until a plan delays
}

// runThen is run in a goroutine of its own. Owner: flow.relay.
func (p *pump) runThen(done func()) {
	defer done()
	p.run()
}

// errReplanned makes a pump look at the plan again.
var errReplanned = errors.New("meshsim: plan changed")

// run pumps until the end of the stream, and passes that on; a failure of
// either leg resets both.
func (p *pump) run() {
	defer func() {
		if p.line != nil {
			p.line.close()
		}
	}()
	for {
		if err := p.src.SetReadDeadline(time.Time{}); err != nil {
			return // the flow was closed
		}
		if now := p.flow.plan.Load(); now != p.plan {
			p.plan, p.sent = now, 0
		}
		err := p.step()
		switch {
		case p.plan.cut:
			return // both legs have their FIN, and what is on its way to them must arrive
		case err == nil && !p.back.ended.Load() && isClosed(p.src):
			// The kernel tells a reset once, and told it to a write of the other direction: what looks like an end is none.
			p.flow.abort()
			return
		case err == nil:
			p.ended.Store(true)
			_ = p.dst.CloseWrite() // fails if dst has gone, which ends this direction too
			return
		case p.flow.plan.Load().cut, errors.Is(err, errReplanned), errors.Is(err, os.ErrDeadlineExceeded):
			// Go round. A write that failed because the flow was cut under it is no failure.
		default:
			p.flow.abort()
			return
		}
	}
}

// step pumps under one plan. It returns nil at the end of the stream.
func (p *pump) step() error {
	switch {
	case p.plan.cut:
		_ = p.src.SetReadDeadline(time.Now().Add(lingerTime))
		_, err := io.Copy(io.Discard, p.src)
		return err
	case p.plan.byteLevel():
		return p.copyFaulty()
	}
	if err := p.flush(0); err != nil {
		return err
	}
	if len(p.head) > 0 {
		if _, err := p.dst.Write(p.head); err != nil {
			return err
		}
		p.head = nil
	}
	_, err := p.dst.ReadFrom(p.src)
	return err
}

// copyFaulty pumps through user space.
func (p *pump) copyFaulty() error {
	fault := p.fault(p.plan)
	buf := make([]byte, chunkSize)
	for {
		if fault.Kind != PassBytes && p.sent >= fault.After {
			if err := p.strike(fault.Kind); err != nil {
				return err
			}
		}
		if len(p.head) == 0 {
			n, err := p.read(buf)
			p.head = buf[:n]
			if n == 0 && errors.Is(err, io.EOF) {
				return p.flush(p.plan.Delay) // the FIN takes as long as a byte
			}
			if n == 0 && err != nil {
				p.head = nil
				return err
			}
		}
		b := p.head
		switch left := fault.After - p.sent; {
		case fault.Kind == PassBytes:
		case left <= 0:
			b = inverse(b) // no other fault gets here
		case int64(len(b)) > left:
			b = b[:left]
		}
		if err := p.pass(b); err != nil {
			return err
		}
		p.head = p.head[len(b):]
		p.sent += int64(len(b))
		if p.flow.plan.Load() != p.plan {
			return errReplanned
		}
	}
}

// strike does what a byte fault says. It returns nil if pumping goes on.
func (p *pump) strike(kind ByteFaultKind) error {
	if kind == GarbageBytes {
		return nil
	}
	if !p.plan.forgotten {
		if err := p.flush(0); err != nil {
			return err
		}
	}
	switch kind {
	case ResetBytes:
		p.flow.abort()
	case CutBytes:
		p.flow.end(EndFIN)
		return errReplanned
	case StallBytes:
		select {
		case <-p.plan.replaced:
			return errReplanned
		case <-p.flow.closed:
		}
	}
	return net.ErrClosed
}

// read reads from src and, if the plan reaps idle flows, ends this one when
// neither direction saw a byte for too long.
func (p *pump) read(buf []byte) (int, error) {
	for {
		if p.plan.Idle > 0 {
			left := p.plan.Idle - p.flow.idleFor()
			if left <= 0 {
				p.flow.end(p.plan.IdleEnd)
				return 0, errReplanned
			}
			_ = p.src.SetReadDeadline(time.Now().Add(left))
			if p.flow.plan.Load() != p.plan {
				return 0, errReplanned // that deadline may have undone replan's
			}
		}
		n, err := p.src.Read(buf)
		if n > 0 {
			p.flow.touch()
		}
		if p.plan.Idle > 0 && errors.Is(err, os.ErrDeadlineExceeded) && p.flow.plan.Load() == p.plan {
			continue
		}
		return n, err
	}
}

// pass hands b on, now or later.
func (p *pump) pass(b []byte) error {
	if p.plan.Delay <= 0 {
		if err := p.flush(0); err != nil {
			return err
		}
		return write(p.dst, b, p.plan.Drip)
	}
	if p.line == nil {
		p.line = newDelayLine(p.dst, p.flow)
	}
	return p.line.put(b, time.Now().Add(p.plan.Delay), p.plan.Drip)
}

// flush returns when everything put into the delay line before has been
// written, and at the earliest after the given time.
func (p *pump) flush(after time.Duration) error {
	if p.line == nil {
		return nil
	}
	return p.line.flush(time.Now().Add(after))
}

// write writes b, with drip each byte by itself.
func write(dst *net.TCPConn, b []byte, drip bool) error {
	step := len(b)
	if drip {
		step = 1
	}
	for len(b) > 0 {
		if _, err := dst.Write(b[:step]); err != nil {
			return err
		}
		b = b[step:]
	}
	return nil
}

func inverse(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = ^c
	}
	return out
}
