// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// roads is a State whose ways to its gateways are in memory, so that the time of a bubble shows which of them is tried, and when,
// alike on every machine. What a dial does besides, TCP and TLS, is left out.
type roads struct {
	*tlsstate.State
	skew clocktest.Skew

	mu     sync.Mutex
	closed map[string]func(context.Context) error // by address; those that are not here are open
	tried  []string                               // in this connect
}

func newRoads(t *testing.T, cfg tlsstate.Config) *roads {
	t.Helper()
	r := &roads{closed: make(map[string]func(context.Context) error)}
	cfg.Source, cfg.Clock = new(store), r.skew.Now
	var err error
	if r.State, err = tlsstate.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.State.Close)
	return r
}

// refuse and swallow are how a closed road answers.
func refuse(context.Context) error { return syscall.ECONNREFUSED }

func swallow(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// set closes the road to an address, or opens it if answer is nil.
func (r *roads) set(addr string, answer func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed[addr] = answer; answer == nil {
		delete(r.closed, addr)
	}
}

func (r *roads) open(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	addr := to.Addr().String()
	r.mu.Lock()
	answer := r.closed[addr]
	r.tried = append(r.tried, addr)
	r.mu.Unlock()
	if answer != nil {
		return nil, answer(ctx)
	}
	near, far := net.Pipe()
	context.AfterFunc(ctx, func() { _ = far.Close() }) // once the race is decided
	return near, nil
}

// connect returns the addresses that were tried, of which the last one may have been connected to.
func (r *roads) connect(ctx context.Context) ([]string, error) {
	r.mu.Lock()
	r.tried = nil
	r.mu.Unlock()
	c, err := r.Connect(ctx, r.open)
	if err == nil {
		_ = c.Reset()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tried, err
}

// leads wants that one address after the other is tried, without a wait, and the last of them is connected to.
func (r *roads) leads(t *testing.T, want ...string) {
	t.Helper()
	began := time.Now()
	tried, err := r.connect(t.Context())
	if took := time.Since(began); err != nil || took != 0 || !slices.Equal(tried, want) {
		t.Errorf("tried %v in %v, error %v; want %v at once", tried, took, err, want)
	}
}

// first and second are the addresses of the gateways of both.
const first, second = "192.0.2.1", "192.0.2.2"

var both = []string{first + ":8443", second + ":8443"}

// The last good gateway comes first; a dead one is skipped for 30 s by either clock, then tried again.
func TestDeadGatewayIsSkippedFor30Seconds(t *testing.T) {
	t.Parallel()
	for kind, jump := range jumps {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRoads(t, tlsstate.Config{Gateways: both})
				r.SetFirst(0)
				r.set(first, refuse)
				r.leads(t, first, second)
				r.set(first, nil)
				r.leads(t, second) // the last good one
				jump(&r.skew, 30*time.Second-1)
				r.SetFirst(0)
				r.leads(t, second)
				jump(&r.skew, 1)
				r.leads(t, second) // still the last good one
				r.SetFirst(0)
				r.leads(t, first)
			})
		})
	}
}

// A gateway that works again is not dead any more.
func TestGatewayThatWorksAgainIsNotSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoads(t, tlsstate.Config{Gateways: both})
		r.SetFirst(0)
		r.set(first, refuse)
		r.set(second, refuse)
		if tried, err := r.connect(t.Context()); err == nil {
			t.Fatalf("connected; tried %v", tried)
		}
		r.set(second, nil)
		r.leads(t, first, second) // both are dead, and tried
		r.set(first, nil)
		r.SetFirst(0)
		r.leads(t, second)
	})
}

// A dial that is given up before the next gateway would have been tried says nothing about the one that did not answer; a later one
// does.
func TestDialThatIsGivenUpDoesNotMakeAGatewayDead(t *testing.T) {
	t.Parallel()
	for after, dead := range map[time.Duration]bool{
		20 * time.Millisecond: false,
		stagger - 1:           false,
		stagger + 1:           true,
	} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRoads(t, tlsstate.Config{Gateways: both})
				r.SetFirst(0)
				for _, a := range []string{first, second} {
					r.set(a, swallow)
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(after, cancel)
				began := time.Now()
				if tried, err := r.connect(ctx); err == nil || time.Since(began) != after {
					t.Fatalf("tried %v in %v, error %v; want it given up after %v", tried, time.Since(began), err, after)
				}
				for _, a := range []string{first, second} {
					r.set(a, nil)
				}
				r.SetFirst(1)
				r.leads(t, second) // while all are dead none is skipped: one has to be alive to show what the other is
				r.SetFirst(0)
				if dead {
					r.leads(t, second)
				} else {
					r.leads(t, first)
				}
			})
		})
	}
}

// Name servers shuffle. The last good address of a name is kept all the same, as sessions and a live path are known there.
func TestLastGoodAddressStaysFirstWhenTheNameIsLookedUpAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		resolver := &names{addrs: addrs("192.0.2.3", "192.0.2.2")}
		r := newRoads(t, tlsstate.Config{Gateways: []string{"gateway.test:8443"}, Resolver: resolver})
		r.set("192.0.2.3", refuse)
		r.leads(t, "192.0.2.3", "192.0.2.2")
		resolver.set(func(n *names) { n.addrs = addrs("192.0.2.1", "192.0.2.2") })
		r.skew.Jump(30*time.Second - 1)
		r.leads(t, "192.0.2.2")
		if n := resolver.count(); n != 1 {
			t.Errorf("asked %d times within 30 s", n)
		}
		r.skew.Jump(1)
		r.leads(t, "192.0.2.2")
		if n := resolver.count(); n != 2 {
			t.Errorf("asked %d times in 30 s, want 2", n)
		}
	})
}
