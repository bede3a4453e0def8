// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"cmp"
	"net"
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
