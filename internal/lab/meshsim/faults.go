// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// FaultPlan says what goes wrong with a gateway's connections. The zero value
// is health. A plan is a value: changing one that was handed over has no effect.
//
// Up is the direction from the function to the sidecar, Down the way back.
type FaultPlan struct {
	Accept AcceptFault // of new connections only
	Up     ByteFault
	Down   ByteFault

	// Delay holds back every byte, and the end of the stream, by this much in
	// each direction: a round trip takes twice as long. It is a line, not a
	// pause: bytes sent together arrive together. The TCP handshake is not delayed.
	Delay time.Duration

	// Drip sends each byte with a write of its own, without Nagle's delay. The
	// kernel still merges bytes that have to wait for an acknowledgement.
	Drip bool

	// Idle ends a connection in which nothing came from either side for this
	// long, as IdleEnd says. 0: never.
	Idle    time.Duration
	IdleEnd End
}

// AcceptFault is what happens to a new connection.
type AcceptFault int

// What can happen to a new connection.
const (
	AcceptNormally AcceptFault = iota
	AcceptReset                // reset at once
	AcceptSilent               // keep it open, read nothing, say nothing, whatever plan comes next
)

// ByteFault strikes one direction once After bytes of it were passed on,
// counted from when the plan took hold of the connection: for new ones, from
// their first byte.
type ByteFault struct {
	Kind  ByteFaultKind
	After int64
}

// ByteFaultKind is what a [ByteFault] does.
type ByteFaultKind int

// What can happen to bytes.
const (
	PassBytes    ByteFaultKind = iota
	StallBytes                 // pass on nothing more in this direction, until another plan is set
	ResetBytes                 // reset both legs
	CutBytes                   // FIN on both legs, nothing more in either direction; TLS gets no close_notify
	GarbageBytes               // pass on the inverse of every further byte
)

// byteLevel reports whether the plan needs the bytes in user space.
func (p FaultPlan) byteLevel() bool {
	return p.Up.Kind != PassBytes || p.Down.Kind != PassBytes || p.Delay > 0 || p.Drip || p.Idle > 0
}

// SetFaults sets the plan for connections that are accepted from now on.
func (g *Gateway) SetFaults(p FaultPlan) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.plan = p
}

// SetFaultsOpen sets the plan of the connections that are open now, and
// returns how many there are. Bytes already handed to the kernel get through.
func (g *Gateway) SetFaultsOpen(p FaultPlan) int {
	g.mu.Lock()
	flows := g.open()
	g.mu.Unlock()
	for _, f := range flows {
		f.replan(flowPlan{FaultPlan: p})
	}
	return len(flows)
}

// SetFaultsOf is SetFaultsOpen for one connection: the one whose leg to the
// destination has the address peer, which is what the destination sees as its
// remote address. It returns false if there is none.
func (g *Gateway) SetFaultsOf(peer string, p FaultPlan) bool {
	f := g.flowOf(peer)
	if f != nil {
		f.replan(flowPlan{FaultPlan: p})
	}
	return f != nil
}

// ForgetOf is Forget for the one connection that SetFaultsOf would find.
func (g *Gateway) ForgetOf(peer string) bool {
	f := g.flowOf(peer)
	if f != nil {
		f.forget()
	}
	return f != nil
}

// Bury closes the connections that were forgotten, unheard by whoever was at their ends, and returns how many there were.
// Until then none can be made from a port that such a connection had: its SYN goes unanswered like all else from there.
func (g *Gateway) Bury() (n int) {
	g.mu.Lock()
	flows := g.open()
	g.mu.Unlock()
	for _, f := range flows {
		if f.plan.Load().forgotten {
			f.abort()
			n++
		}
	}
	return n
}

// flowOf returns the flow whose leg to the destination has that address, or nil.
func (g *Gateway) flowOf(peer string) *flow {
	g.mu.Lock()
	flows := g.open()
	g.mu.Unlock()
	for _, f := range flows {
		if f.peer() == peer {
			return f
		}
	}
	return nil
}

// Refuse closes the listener: new connections are refused, open ones go on.
func (g *Gateway) Refuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ln != nil {
		_ = g.ln.Close()
		g.ln = nil
	}
}

// Reopen listens at the old address again, after Refuse. If another socket
// took the port meanwhile it tries until ctx is done.
func (g *Gateway) Reopen(ctx context.Context) error {
	for {
		err := g.reopen()
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("meshsim: reopening gateway: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (g *Gateway) reopen() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	if g.ln != nil {
		return nil
	}
	ln, err := listen(g.addr)
	if err != nil {
		return err
	}
	g.serve(ln)
	return nil
}

// Unreachable makes the gateway's port swallow connection attempts without an
// answer, as a route into nowhere does, or stops doing so. Open connections
// are not concerned. Linux only; elsewhere the error wraps [ErrUnsupported].
func (g *Gateway) Unreachable(on bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ln == nil {
		return fmt.Errorf("meshsim: gateway does not listen: %w", ErrClosed)
	}
	return dropIncoming(g.ln, on)
}

// Forget is a middlebox that loses its table: the connections open now hang in
// both directions for good, without FIN or RST, while new ones work. It
// returns how many there are. On Linux nothing they send is acknowledged
// any more; elsewhere it is, but goes nowhere.
func (g *Gateway) Forget() int {
	g.mu.Lock()
	flows := g.open()
	g.mu.Unlock()
	for _, f := range flows {
		f.forget()
	}
	return len(flows)
}

// Kill ends at most n connections, chosen at random by GatewayConfig.Seed,
// among those that are not forgotten and in which nothing came from either
// side for idle; n < 0 means all of them. It returns how many it ended. Where
// the kernel does not say how long a connection was idle (it does on Linux),
// spliced bytes do not count as traffic.
func (g *Gateway) Kill(n int, idle time.Duration, how End) int {
	g.mu.Lock()
	var candidates []*flow
	for _, f := range g.open() {
		if !f.plan.Load().forgotten && f.idleFor() >= idle {
			candidates = append(candidates, f)
		}
	}
	// The map gave them in any order: the seed can only decide over a fixed one.
	sortByAge(candidates)
	g.rng.Shuffle(len(candidates), func(i, j int) {
		candidates[i], candidates[j] = candidates[j], candidates[i]
	})
	g.mu.Unlock()
	if n >= 0 && n < len(candidates) {
		candidates = candidates[:n]
	}
	for _, f := range candidates {
		f.end(how)
	}
	return len(candidates)
}
