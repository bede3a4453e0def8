// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
)

// What is not in the matrix, because a process cannot be shown it from outside, is tested in one process:
//
//	clocks that jump, both ways     proxy: TestAClockThatIsSetBackEndsNothing, internal/clock: TestElapsedTimeIsTheLargerOfBothClocks,
//	                                TestAWatchIgnoresAClockThatIsSetBack, tlsstate: TestUseAfterAFreezeRefreshesWhatIsDue
//	freezes of minutes and hours    proxy: TestAConnectionThatWasSilentOverALongFreezeIsReset, tlsstate: TestThawStartsWhatIsDue
//	names that change or fail       tlsstate: TestNameIsLookedUpAgainAfter30Seconds, TestStaleAddressesServeWhileTheLookUpFails,
//	                                TestLookUpThatHangsIsBounded; a process asks the system's resolver, which is the machine's
//	goroutines that stay            goleak in every package's TestMain; here threads are counted
//	panics                          proxy: TestAPanicEndsOneConnection, tlsstate: TestPanicOfTheSourceIsSurvived

// phase is what is going on when a fault strikes.
type phase int

const (
	inInit       phase = iota // the sandbox starts with the fault in force, and calls at once
	onIdle                    // nothing is open but spare connections; then a call that gets one
	onDial                    // nothing is open; then a call that has to be dialled
	inHandshake               // a call's handshake is under way
	inStream                  // an answer is under way, both ends are open or the function has ended its own
	onHalfClosed              // the function has sent all and ended its direction, and the answer is under way
	inRefresh                 // the store is being asked for a new leaf; then a call that has to be dialled
	inFreeze                  // an answer is under way when everything is frozen; it strikes while nothing runs
	onShutdown                // an upload is under way; then SHUTDOWN
	phases
)

var phaseNames = [phases]string{"Init", "idle", "dial", "handshake", "stream", "half-closed", "refresh", "freeze", "SHUTDOWN"}

// What may become of the call that a cell makes, and of the process.
const (
	none   = signal("")
	healed = signal("whole late") // whole, but only after the fault was over
	exits  = signal("exit 0")     // before the deadline; what the call was told is the right signal, whichever
)

type outcomes [phases]signal

// row is one kind of fault.
type row struct {
	fault  string
	strike func(*cell) error // for what is open and what is to come
	heal   func(*cell) error // nil: nothing to heal
	want   outcomes
	env    map[string]string
	cuts   bool          // with a bare FIN, which the lab's sidecars take for a clean end
	alone  bool          // it takes the machine for itself
	stream kind          // of the call in the phase stream; default source
	hold   time.Duration // for how long it is in force, unless the call has ended before; default 1.2 s
	within time.Duration // bound of a call of which the wanted end is a reset; default: the dial timeout, and a second
}

// Expectations that many rows share.
var (
	// Who is new cannot get in, who is in stays. A spare connection is in.
	keepsOut = outcomes{cut, whole, cut, whole, whole, whole, cut, whole, exits}
	// All that goes through the gateway is lost.
	losesAll = outcomes{cut, cut, cut, cut, cut, cut, cut, cut, exits}
	// The store is needed in Init, unless the last good credentials are there. After it no failure of the store is felt (R12).
	needsStore = outcomes{cut, whole, whole, whole, whole, whole, whole, whole, exits}
	// Not felt at all.
	unfelt = outcomes{whole, whole, whole, whole, whole, whole, whole, whole, exits}
)

var matrix = []row{
	{fault: "gateway refuses", want: keepsOut,
		strike: func(c *cell) error { c.Mesh.Gateway.Refuse(); return nil },
		heal:   func(c *cell) error { return c.Mesh.Gateway.Reopen(c.ctx) }},
	{fault: "gateway resets new connections", want: keepsOut, strike: faults(meshsim.FaultPlan{Accept: meshsim.AcceptReset}), heal: sound},
	{fault: "gateway answers no SYN", want: keepsOut,
		strike: func(c *cell) error { return c.Mesh.Gateway.Unreachable(true) },
		heal:   func(c *cell) error { return c.Mesh.Gateway.Unreachable(false) }},
	{fault: "gateway accepts and stays silent", want: keepsOut, strike: faults(meshsim.FaultPlan{Accept: meshsim.AcceptSilent}), heal: sound},
	{fault: "handshake stalls half way", want: keepsOut, strike: faults(bytes(meshsim.StallBytes, 60)), heal: sound},
	{fault: "handshake is cut half way", want: keepsOut, strike: faults(bytes(meshsim.CutBytes, 60)), heal: sound},
	{fault: "handshake is garbage", want: keepsOut, strike: faults(bytes(meshsim.GarbageBytes, 0)), heal: sound},
	{fault: "gateway dies: resets all", want: losesAll, heal: sound,
		strike: func(c *cell) error {
			c.Mesh.Gateway.SetFaults(meshsim.FaultPlan{Accept: meshsim.AcceptReset})
			c.Mesh.Gateway.Kill(-1, 0, meshsim.EndRST)
			return nil
		}},
	{fault: "cuts all without close_notify", want: losesAll, cuts: true, strike: faultsOfAll(bytes(meshsim.CutBytes, 0)), heal: sound},
	{fault: "garbage on all", want: losesAll, strike: faultsOfAll(bytes(meshsim.GarbageBytes, 0)), heal: sound},
	{fault: "all stalls, then goes on", strike: faultsOfAll(bytes(meshsim.StallBytes, 0)), heal: sound,
		want: outcomes{cut, healed, cut, cut, healed, healed, cut, healed, exits}},
	{fault: "path forgets the connection", want: outcomes{inStream: cut}, stream: echo, hold: 14 * time.Second, within: 14 * time.Second,
		strike: func(c *cell) error {
			for _, v := range c.site.visits(echo) {
				c.Mesh.Gateway.ForgetOf(v.peer)
			}
			return nil
		}},
	{fault: "spares are reset", want: outcomes{onIdle: whole, onDial: whole, inRefresh: whole, onShutdown: none}, strike: endIdle(meshsim.EndRST)},
	{fault: "spares get a bare FIN", want: outcomes{onIdle: whole, onDial: whole, inRefresh: whole}, strike: endIdle(meshsim.EndFIN)},
	{fault: "spares get close_notify", want: outcomes{onIdle: whole, onDial: whole, inRefresh: whole},
		strike: func(c *cell) error { c.Sidecar(spared).Drop(meshsim.EndNotify); return c.pass() }},
	{fault: "one gateway's name is unknown", want: unfelt, env: map[string]string{"CONSUL_MESH_GATEWAY_URI": "gateway.invalid:8443,$GATEWAY"}},

	{fault: "store throttles", want: needsStore, strike: store(ssmsim.Throttled()), heal: storeHeals},
	{fault: "store answers 500", want: needsStore, strike: store(ssmsim.InternalError()), heal: storeHeals},
	{fault: "store does not answer", want: needsStore, strike: store(ssmsim.Hang()), heal: storeHeals},
	{fault: "store resets", want: needsStore, strike: store(ssmsim.Reset()), heal: storeHeals},
	{fault: "store's answer is cut", want: needsStore, strike: store(ssmsim.Truncate()), heal: storeHeals},
	{fault: "store answers HTML", want: needsStore, strike: store(ssmsim.Raw(200, "text/html", "<p>captive portal</p>")), heal: storeHeals},
	{fault: "store denies", want: needsStore, strike: store(ssmsim.AccessDenied()), heal: storeHeals},
	{fault: "parameter is gone", want: needsStore, heal: soundLeaf,
		strike: func(c *cell) error { c.Store.Delete(c.ParameterPath()); return nil }},
	{fault: "document is another's", want: needsStore, strike: document(func(string) string { return `{"user":"admin"}` }), heal: soundLeaf},
	{fault: "document is cut", want: needsStore, strike: document(func(d string) string { return d[:len(d)/2] }), heal: soundLeaf},
	{fault: "document has no roots", want: needsStore, strike: document(withoutRoots), heal: soundLeaf},
	{fault: "key of another leaf", want: needsStore, strike: leaf(meshsim.MismatchedKey), heal: soundLeaf},
	{fault: "leaf has expired", want: needsStore, strike: leaf(meshsim.Expired), heal: soundLeaf},
	{fault: "leaf is not valid yet", want: needsStore, strike: leaf(meshsim.NotYetValid), heal: soundLeaf},

	// Until there are descriptors a connection waits in the kernel; the next accept is tried within a second.
	{fault: "no descriptors are left", strike: noDescriptors, heal: descriptors,
		want: outcomes{onIdle: healed, onDial: healed, inStream: whole, onHalfClosed: whole, inRefresh: healed, inFreeze: whole, onShutdown: exits}},
	// A handshake that was stopped for longer than the dial timeout begins again.
	{fault: "stopped by SIGSTOP", want: outcomes{onIdle: healed, onDial: healed, inHandshake: healed, inStream: healed, onHalfClosed: healed, inRefresh: healed, onShutdown: exits},
		hold:   1500 * time.Millisecond,
		strike: func(c *cell) error { return c.box.Freeze(c.ctx) },
		heal:   func(c *cell) error { return c.box.Thaw(c.ctx) }},

	// What the function does to the extension. The limit is 400 connections: those past it are reset, and those within go on.
	{fault: "2,000 connections at once", alone: true, strike: flood(2000), heal: recede,
		want: outcomes{onIdle: cut, inStream: whole, onShutdown: exits}},
	{fault: "30 readers that never read", alone: true, strike: neverRead(30), heal: recede, hold: 5 * time.Second,
		want: outcomes{onDial: whole, inStream: whole, onShutdown: exits}},
	{fault: "50 writers of single bytes", strike: drip(50), heal: recede,
		want: outcomes{onDial: whole, inStream: whole, onShutdown: exits}},
	{fault: "200 that half-close at once", alone: true, strike: halfClose(200), heal: recede,
		want: outcomes{onDial: whole, inStream: whole, onShutdown: exits}},
}

// R5–R9, R12–R19: every fault in every phase in which it can strike. In each cell the call gets the right signal in time;
// after it all works again, and the process holds no more than before: descriptors, memory, threads. In the end SHUTDOWN
// is obeyed with the fault in force.
func TestTheFaultMatrix(t *testing.T) {
	if os.Getenv("FAULTS") != "1" || underRace {
		// Time is part of it, so that nothing may run beside it. And what is tested is a program of its own, without the race detector:
		// with it the lab would take its CPU away.
		t.Skip("takes 20 s, and the machine for itself: make test-faults")
	}
	_ = programs(t)
	table := make([][phases]string, len(matrix))
	var mu sync.Mutex
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprintf("alone=%v", alone), func(t *testing.T) {
			for i, r := range matrix {
				if r.alone != alone {
					continue
				}
				t.Run(r.fault, func(t *testing.T) {
					if !alone {
						t.Parallel()
					}
					runRow(t, &r, func(p phase, entry string) {
						mu.Lock()
						defer mu.Unlock()
						table[i][p] = entry
					})
				})
			}
		})
	}
	t.Log("\n" + render(table))
}

func render(table [][phases]string) string {
	var b strings.Builder
	line := func(first string, cells [phases]string) {
		fmt.Fprintf(&b, "| %-32s |", first)
		for _, c := range cells {
			fmt.Fprintf(&b, " %-17s |", c)
		}
		b.WriteByte('\n')
	}
	line("fault", phaseNames)
	b.WriteString("|" + strings.Repeat("-", 34) + "|" + strings.Repeat(strings.Repeat("-", 19)+"|", int(phases)) + "\n")
	for i, cells := range table {
		line(matrix[i].fault, cells)
	}
	return b.String()
}

// The faults.

func bytes(kind meshsim.ByteFaultKind, after int64) meshsim.FaultPlan {
	return meshsim.FaultPlan{Down: meshsim.ByteFault{Kind: kind, After: after}}
}

// faults is for connections to come.
func faults(p meshsim.FaultPlan) func(*cell) error {
	return func(c *cell) error { c.Mesh.Gateway.SetFaults(p); return nil }
}

// faultsOfAll is for those that are open, too.
func faultsOfAll(p meshsim.FaultPlan) func(*cell) error {
	return func(c *cell) error {
		c.Mesh.Gateway.SetFaults(p)
		c.Mesh.Gateway.SetFaultsOpen(p)
		return nil
	}
}

func sound(c *cell) error { return faultsOfAll(meshsim.FaultPlan{})(c) }

// endIdle ends the spare connections, and waits until the extension could know.
func endIdle(how meshsim.End) func(*cell) error {
	return func(c *cell) error {
		c.Mesh.Gateway.Kill(-1, 0, how)
		return c.pass()
	}
}

func store(f ssmsim.Fault) func(*cell) error {
	return func(c *cell) error { c.Store.FailAll("", f); return nil }
}

func storeHeals(c *cell) error {
	c.Store.Heal()
	c.Store.Release()
	return nil
}

func document(change func(string) string) func(*cell) error {
	return func(c *cell) error {
		p, found := c.Store.Get(c.ParameterPath())
		if !found {
			return fmt.Errorf("there is no document")
		}
		c.StoreText(change(p.Value))
		return nil
	}
}

func withoutRoots(doc string) string {
	before, rest, _ := strings.Cut(doc, `"rootCertPEM":"`)
	_, after, _ := strings.Cut(rest, `"`)
	return before + `"rootCertPEM":"` + `"` + after
}

func leaf(flaw meshsim.Flaw) func(*cell) error {
	return func(c *cell) error {
		_, err := c.StoreLeafWith(meshsim.LeafOptions{Flaw: flaw})
		return err
	}
}

func soundLeaf(c *cell) error {
	_, err := c.StoreLeaf(0)
	return err
}

func noDescriptors(c *cell) (err error) {
	_, err = limitDescriptors(c.pid(), 1)
	return err
}

func descriptors(c *cell) error {
	_, err := limitDescriptors(c.pid(), 1024)
	return err
}

// flood opens n connections that say nothing, as fast as can be.
func flood(n int) func(*cell) error {
	return crowd(n, func(_ *cell, conn *net.TCPConn, receding <-chan struct{}) { <-receding })
}

// neverRead asks n times for a stream and does not take it. It returns when what the kernel holds on the way is full.
func neverRead(n int) func(*cell) error {
	ask := crowd(n, func(c *cell, conn *net.TCPConn, receding <-chan struct{}) {
		_, _ = fmt.Fprintln(conn, call{id: c.next.Add(1), kind: source, service: dialled, down: 64 << 20})
		<-receding
	})
	return func(c *cell) error {
		if err := ask(c); err != nil {
			return err
		}
		for last := int64(-1); ; time.Sleep(200 * time.Millisecond) { // over which the processor's time is counted
			u, err := c.use()
			if err != nil || last >= 0 && u.cpu-last < int64(20*time.Millisecond) {
				return err
			}
			last = u.cpu
		}
	}
}

// drip sends n times a byte after the other.
func drip(n int) func(*cell) error {
	return crowd(n, func(c *cell, conn *net.TCPConn, receding <-chan struct{}) {
		q := call{id: c.next.Add(1), kind: echo, service: dialled, up: 1 << 20}
		first, body, b := []byte(q.String()+"\n"), newBody(q.id, requests), make([]byte, 1)
		for {
			if len(first) > 0 {
				b[0], first = first[0], first[1:]
			} else {
				_, _ = body.Read(b)
			}
			if _, err := conn.Write(b); err != nil {
				return
			}
			select {
			case <-receding:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

// halfClose ends its direction n times before it has said anything, and wants the end back (R6).
func halfClose(n int) func(*cell) error {
	return crowd(n, func(c *cell, conn *net.TCPConn, _ <-chan struct{}) {
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || classify(err) == hung {
			c.t.Errorf("a connection that was ended at once gave %d bytes, %v", n, err)
		}
	})
}

// crowd makes n connections, each of which does something until it recedes. It returns when all have tried to connect.
func crowd(n int, do func(c *cell, conn *net.TCPConn, receding <-chan struct{})) func(*cell) error {
	return func(c *cell) error {
		receding := make(chan struct{})
		c.receding = receding
		var connected sync.WaitGroup
		dialer := net.Dialer{Timeout: patience, KeepAlive: -1}
		for range n {
			connected.Add(1)
			c.members.Go(func() {
				conn, err := dialer.DialContext(c.ctx, "tcp", c.Addr(dialled))
				connected.Done()
				if err != nil {
					return // past the limit
				}
				defer context.AfterFunc(c.ctx, func() { _ = conn.Close() })()
				do(c, conn.(*net.TCPConn), receding)
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			})
		}
		connected.Wait()
		return c.pass()
	}
}

// recede ends the crowd.
func recede(c *cell) error {
	if c.receding == nil {
		return nil
	}
	u, err := c.use()
	if err == nil && u.memory > c.base.memory+crowdMemory {
		c.t.Errorf("under %s the extension took %d KiB", c.row.fault, u.memory>>10)
	}
	close(c.receding)
	c.receding = nil
	c.members.Wait()
	return nil
}

// crowdMemory is what a crowd may cost: in a function of 128 MB an eighth of it in buffers (R17), and some 25 KiB for each of
// 400 connections; what the collector has not given back comes on top.
const crowdMemory = 48 << 20
