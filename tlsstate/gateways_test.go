// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// stagger is how long a gateway is alone before the next is tried as well.
const stagger = 300 * time.Millisecond

// meshWorld is a mesh with several gateways, and a State that knows them by address.
type meshWorld struct {
	*world
	gateways []*meshsim.Gateway
}

// startMesh starts n gateways with a service called web behind them. The first one is tried first.
func startMesh(t testing.TB, n int) *meshWorld {
	t.Helper()
	m, doc := newMesh(t, "web")
	gateways := []*meshsim.Gateway{m.Gateway}
	for len(gateways) < n {
		g, err := m.AddGateway()
		if err != nil {
			t.Fatal(err)
		}
		gateways = append(gateways, g)
	}
	var addrs []string
	for _, g := range gateways {
		addrs = append(addrs, g.Addr())
	}
	w := &meshWorld{start(t, storeOf(t, doc), tlsstate.Config{Gateways: addrs}), gateways}
	w.ready(t)
	w.SetFirst(0)
	return w
}

// reopen undoes Refuse.
func reopen(t testing.TB, g *meshsim.Gateway) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := g.Reopen(ctx); err != nil {
		t.Fatal(err)
	}
}

// blackHole makes a gateway swallow connection attempts.
func blackHole(t testing.TB, g *meshsim.Gateway, on bool) {
	t.Helper()
	if err := g.Unreachable(on); errors.Is(err, meshsim.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
}

// used tells through which gateway a connection goes.
func (w *meshWorld) used(t testing.TB, c net.Conn) int {
	t.Helper()
	return slices.IndexFunc(w.gateways, func(g *meshsim.Gateway) bool { return g.Addr() == c.RemoteAddr().String() })
}

// wantAtOnce does something up to five times, on a machine that may be busy, until it is done before stagger has passed.
func wantAtOnce(t testing.TB, do func()) {
	t.Helper()
	var took time.Duration
	for range 5 {
		began := time.Now()
		do()
		if took = time.Since(began); took < stagger {
			return
		}
	}
	t.Errorf("took %v, and not less in five attempts; want it done at once", took)
}

// Section 3.1 of the design, of the list of gateways: the next is tried at once when one refuses, cuts or does not know
// the destination, and after a moment when it says nothing.
func TestNextGatewayIsTried(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fail   func(testing.TB, *meshsim.Gateway)
		atOnce bool
	}{
		"refuses": {func(_ testing.TB, g *meshsim.Gateway) { g.Refuse() }, true},
		"resets":  {func(_ testing.TB, g *meshsim.Gateway) { g.SetFaults(meshsim.FaultPlan{Accept: meshsim.AcceptReset}) }, true},
		"cuts the handshake": {func(_ testing.TB, g *meshsim.Gateway) {
			g.SetFaults(meshsim.FaultPlan{Down: meshsim.ByteFault{Kind: meshsim.CutBytes, After: 100}})
		}, true},
		"says nothing":    {func(_ testing.TB, g *meshsim.Gateway) { g.SetFaults(meshsim.FaultPlan{Accept: meshsim.AcceptSilent}) }, false},
		"is a black hole": {func(t testing.TB, g *meshsim.Gateway) { blackHole(t, g, true) }, false},
		"stalls in the handshake": {func(_ testing.TB, g *meshsim.Gateway) {
			g.SetFaults(meshsim.FaultPlan{Down: meshsim.ByteFault{Kind: meshsim.StallBytes, After: 100}})
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startMesh(t, 2)
			tc.fail(t, w.gateways[0])
			connect := func() {
				w.skew.JumpMono(time.Minute) // long enough to try again what was dead
				w.SetFirst(0)
				if w.used(t, w.dial(t, 0)) != 1 {
					t.Fatal("the gateway that fails was used")
				}
				if w.First() != 1 {
					t.Error("the one that worked is not tried first from now on")
				}
			}
			if tc.atOnce {
				wantAtOnce(t, connect)
				return
			}
			began := time.Now()
			connect()
			if took := time.Since(began); took < stagger || took > stagger+5*time.Second {
				t.Errorf("took %v, want a little more than %v", took, stagger)
			}
		})
	}
}

// A gateway that never heard of the destination is passed over like one that is down.
func TestGatewayWithoutTheRouteIsPassedOver(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	empty, err := meshsim.NewGateway(meshsim.GatewayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = empty.Close() })
	good := destination(t, serverConfig(ca.Leaf(t, id(t, ca, "web"))))
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{empty.Addr(), good}})
	w.SetFirst(0)
	if got := w.dial(t, 0).RemoteAddr().String(); got != good {
		t.Errorf("connected through %s", got)
	}
}

// R9: when nothing answers, the error comes within the context and names each gateway.
func TestAllGatewaysDeadIsToldWithinTheContext(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		gateways int
		fail     func(testing.TB, *meshsim.Gateway)
		atOnce   bool
	}{
		"two refuse":      {2, func(_ testing.TB, g *meshsim.Gateway) { g.Refuse() }, true},
		"one refuses":     {1, func(_ testing.TB, g *meshsim.Gateway) { g.Refuse() }, true},
		"two black holes": {2, func(t testing.TB, g *meshsim.Gateway) { blackHole(t, g, true) }, false},
		"one black hole":  {1, func(t testing.TB, g *meshsim.Gateway) { blackHole(t, g, true) }, false},
		"two silent": {2, func(_ testing.TB, g *meshsim.Gateway) {
			g.SetFaults(meshsim.FaultPlan{Accept: meshsim.AcceptSilent})
		}, false},
		"one silent": {1, func(_ testing.TB, g *meshsim.Gateway) {
			g.SetFaults(meshsim.FaultPlan{Accept: meshsim.AcceptSilent})
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startMesh(t, tc.gateways)
			for _, g := range w.gateways {
				tc.fail(t, g)
			}
			const bound = time.Second // in which the second gateway is tried too, also on a machine that is slow
			var err error
			dial := func() {
				ctx, cancel := context.WithTimeout(t.Context(), bound)
				defer cancel()
				if _, err = w.Dial(ctx, 0); err == nil {
					t.Fatal("connected through a dead gateway")
				}
			}
			if tc.atOnce {
				wantAtOnce(t, dial)
			} else {
				began := time.Now()
				dial()
				if took := time.Since(began); took < bound-50*time.Millisecond || took > bound+5*time.Second {
					t.Errorf("took %v, want about %v", took, bound)
				}
			}
			for _, g := range w.gateways {
				if !strings.Contains(err.Error(), g.Addr()) {
					t.Errorf("error %v does not name %s", err, g.Addr())
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if silent := strings.Contains(name, "silent"); errors.Is(err, tlsstate.ErrNoGateway) == silent {
				t.Errorf("error %v: ErrNoGateway is for those that could not be reached", err)
			}
		})
	}
}

// Skipping dead gateways is for when there are others.
func TestAllGatewaysAreTriedWhenAllAreDead(t *testing.T) {
	t.Parallel()
	w := startMesh(t, 3)
	for _, g := range w.gateways {
		g.Refuse()
	}
	w.refused(t, 0)
	reopen(t, w.gateways[1])
	if w.used(t, w.dial(t, 0)) != 1 {
		t.Error("not through the one that came back")
	}
}

// One that did not answer while another one won is dead, though nobody waited for its end.
func TestBlackHoleIsSkippedOnceAnotherWon(t *testing.T) {
	t.Parallel()
	w := startMesh(t, 2)
	blackHole(t, w.gateways[0], true)
	w.dial(t, 0)
	w.SetFirst(0)
	waittest.Until(t, "a dial that skips the black hole", func() bool { // the loser of the first takes a moment to end
		w.SetFirst(0)
		began := time.Now()
		w.dial(t, 0)
		return time.Since(began) < stagger
	})
}

// Sandboxes that start together do not all begin with the same gateway.
func TestFirstChoiceIsSpread(t *testing.T) {
	t.Parallel()
	seen := make(map[int]int)
	for range 100 {
		state, err := tlsstate.New(tlsstate.Config{Source: new(store), Gateways: []string{"a:1", "b:2", "c:3"}})
		if err != nil {
			t.Fatal(err)
		}
		seen[state.First()]++
	}
	if len(seen) != 3 { // one is left out once in 10^17 runs
		t.Errorf("first choices %v of three gateways", seen)
	}
}

// What lost a race is closed, so that the gateway has no connection that nobody uses.
func TestLosingConnectionIsClosed(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	closed := make(chan error, 1)
	slow := listen(t, "127.0.0.1:0", func(raw net.Conn) {
		_, err := io.Copy(io.Discard, raw)
		closed <- err
	})
	good := destination(t, serverConfig(ca.Leaf(t, id(t, ca, "web"))))
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{slow, good}})
	w.SetFirst(0)
	w.dial(t, 0)
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("the connection that lost is still open")
	}
}

// The same for one that succeeds after all.
func TestLoserThatSucceedsLateIsReset(t *testing.T) {
	t.Parallel()
	loser, winner := newPair(t, pairConfig{}), newPair(t, pairConfig{})
	c, err := tlsstate.Race(t.Context(), 2, func(ctx context.Context, i int) (*tlsstate.Conn, error) {
		if i == 1 {
			return winner.Conn, nil
		}
		<-ctx.Done()
		return loser.Conn, nil
	})
	if c != winner.Conn || err != nil {
		t.Fatalf("the race gave %p, %v", c, err)
	}
	if _, err := loser.far.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the loser's far end read %v", err)
	}
	if _, err := winner.Write([]byte("x")); err != nil {
		t.Errorf("the winner: %v", err)
	}
}

// names is a Resolver that knows what it is told.
type names struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	hangs <-chan struct{} // nil, or how long
	asked int
}

func (n *names) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if host != "gateway.test" {
		return nil, fmt.Errorf("asked for %q", host)
	}
	if hangs := n.hangs; hangs != nil {
		n.mu.Unlock()
		select {
		case <-hangs:
		case <-ctx.Done():
		}
		n.mu.Lock()
		return nil, errors.New("no answer")
	}
	return slices.Clone(n.addrs), n.err
}

func (n *names) set(change func(*names)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

func (n *names) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// startNamed starts a State whose gateway is a name, and a destination at each of the addresses, on one port.
func startNamed(t testing.TB, resolver *names, hosts ...string) *world {
	t.Helper()
	ca := certtest.NewCA(t)
	cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
	port := "0"
	var listeners []net.Listener
	for attempt := 0; len(listeners) < len(hosts); attempt++ {
		ln, err := net.Listen("tcp", net.JoinHostPort(hosts[len(listeners)], port))
		if err != nil {
			for _, ln := range listeners { // the port is taken there
				_ = ln.Close()
			}
			if listeners, port = nil, "0"; attempt > 20 {
				t.Fatal(err)
			}
			continue
		}
		_, port, _ = net.SplitHostPort(ln.Addr().String())
		listeners = append(listeners, ln)
	}
	for _, ln := range listeners {
		serveOn(t, ln, func(raw net.Conn) {
			c := tls.Server(raw, cfg)
			_, _ = io.Copy(c, c)
		})
	}
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{
		Gateways: []string{net.JoinHostPort("gateway.test", port)},
		Resolver: resolver,
	})
	w.ready(t)
	waittest.Until(t, "the name being looked up ahead of need", func() bool { return resolver.count() > 0 })
	return w
}

// host is the address that a connection goes to.
func host(c net.Conn) string { return c.RemoteAddr().(*net.TCPAddr).IP.String() }

// Several addresses of one name fail over like several gateways.
func TestNameWithSeveralAddresses(t *testing.T) {
	t.Parallel()
	resolver := &names{addrs: addrs("127.0.0.3", "127.0.0.2")} // nobody is at the first
	w := startNamed(t, resolver, "127.0.0.1", "127.0.0.2")
	wantAtOnce(t, func() {
		w.skew.JumpMono(time.Minute)
		if got := host(w.dial(t, 0)); got != "127.0.0.2" {
			t.Errorf("connected to %s", got)
		}
	})
}

// A name is asked for again after 30 s by either clock: gateways behind a load balancer change their addresses.
func TestNameIsLookedUpAgainAfter30Seconds(t *testing.T) {
	t.Parallel()
	for kind, jump := range jumps {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			resolver := &names{addrs: addrs("127.0.0.1")}
			w := startNamed(t, resolver, "127.0.0.1", "127.0.0.2")
			w.dial(t, 0)
			resolver.set(func(n *names) { n.addrs = addrs("127.0.0.2") })
			jump(w.skew, 15*time.Second)
			if got := host(w.dial(t, 0)); got != "127.0.0.1" || resolver.count() != 1 {
				t.Errorf("after 15 s: connected to %s, asked %d times", got, resolver.count())
			}
			jump(w.skew, 16*time.Second)
			if got := host(w.dial(t, 0)); got != "127.0.0.2" || resolver.count() != 2 {
				t.Errorf("after 31 s: connected to %s, asked %d times", got, resolver.count())
			}
		})
	}
}

// An address that is given in the form of IPv6 is the same address.
func TestMappedAddressIsTheSameAddress(t *testing.T) {
	t.Parallel()
	w := startNamed(t, &names{addrs: addrs("::ffff:127.0.0.1")}, "127.0.0.1")
	if got := host(w.dial(t, 0)); got != "127.0.0.1" {
		t.Errorf("connected to %s", got)
	}
}

// Old addresses are better than none.
func TestStaleAddressesServeWhileTheLookUpFails(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(*names){
		"error":      func(n *names) { n.err = errors.New("server misbehaving") },
		"no address": func(n *names) { n.addrs = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resolver := &names{addrs: addrs("127.0.0.1")}
			w := startNamed(t, resolver, "127.0.0.1")
			w.dial(t, 0)
			resolver.set(broken)
			w.skew.Jump(time.Hour)
			w.dial(t, 0)
			if resolver.count() < 2 {
				t.Error("the name was not asked for: the test shows nothing")
			}
		})
	}
}

// A look-up that hangs leaves the better part of a dial's time to use the old addresses, and is bounded by the context
// when there are none.
func TestLookUpThatHangsIsBounded(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	t.Run("with older addresses", func(t *testing.T) {
		t.Parallel()
		resolver := &names{addrs: addrs("127.0.0.1")}
		w := startNamed(t, resolver, "127.0.0.1")
		w.dial(t, 0)
		resolver.set(func(n *names) { n.hangs = hang })
		w.skew.Jump(time.Minute)
		began := time.Now()
		w.dial(t, 0)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("took %v, want about a second, and less than the 5 s of the look-up", took)
		}
	})
	t.Run("without", func(t *testing.T) {
		t.Parallel()
		w := startNamed(t, &names{hangs: hang}, "127.0.0.1")
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := w.Dial(ctx, 0)
		if !errors.Is(err, tlsstate.ErrNoGateway) || !strings.Contains(err.Error(), "gateway.test") {
			t.Errorf("error %v, want ErrNoGateway and the name", err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("took %v, want the context's 200 ms", took)
		}
	})
}

// A name that cannot be looked up is told as such, and tried again by the next dial.
func TestUnknownNameIsTold(t *testing.T) {
	t.Parallel()
	resolver := &names{err: errors.New("no such host")}
	w := startNamed(t, resolver, "127.0.0.1")
	err := w.refused(t, 0)
	if !errors.Is(err, tlsstate.ErrNoGateway) || !errors.Is(err, resolver.err) || !strings.Contains(err.Error(), "gateway.test") {
		t.Errorf("error %v, want ErrNoGateway, the name and the cause", err)
	}
	resolver.set(func(n *names) { n.addrs, n.err = addrs("127.0.0.1"), nil })
	w.dial(t, 0)
}

// Many dials at once ask for a name once, and one that is given up does not take the answer from the others.
func TestDialsShareALookUp(t *testing.T) {
	t.Parallel()
	answer := make(chan struct{})
	resolver := &slowNames{answer: answer, addrs: addrs("127.0.0.1")}
	ca := certtest.NewCA(t)
	_, port, _ := net.SplitHostPort(destination(t, serverConfig(ca.Leaf(t, id(t, ca, "web")))))
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{
		Gateways: []string{"gateway.test:" + port},
		Resolver: resolver,
	})
	w.ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	givenUp := make(chan struct{})
	go func() {
		defer close(givenUp)
		if _, err := w.Dial(ctx, 0); err == nil {
			t.Error("connected without an address")
		}
	}()
	waittest.Until(t, "a look-up", func() bool { return resolver.count() == 1 })
	var dials sync.WaitGroup
	for range 10 {
		dials.Go(func() {
			c, err := w.try(t, 0)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Reset()
		})
	}
	cancel()
	<-givenUp
	close(answer)
	dials.Wait()
	if n := resolver.count(); n > 2 { // two if a dial came after the answer: but then it has the address
		t.Errorf("asked %d times", n)
	}
}

// slowNames answers when it is told to.
type slowNames struct {
	mu     sync.Mutex
	answer chan struct{}
	addrs  []netip.Addr
	asked  int
}

func (n *slowNames) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked++
	n.mu.Unlock()
	select {
	case <-n.answer:
		return slices.Clone(n.addrs), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *slowNames) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// Where the sandbox has IPv6 the gateway may be given so.
func TestIPv6Gateway(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip(err)
	}
	ca := certtest.NewCA(t)
	cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
	serveOn(t, ln, func(raw net.Conn) {
		c := tls.Server(raw, cfg)
		_, _ = io.Copy(c, c)
	})
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{ln.Addr().String()}})
	if got := host(w.dial(t, 0)); got != "::1" {
		t.Errorf("connected to %s", got)
	}
}

// R9: a gateway that says nothing is bounded by the context, with TCP there or not, and so is the wait for credentials.
func TestDialIsBoundedByItsContext(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	silent := listen(t, "127.0.0.1:0", func(raw net.Conn) { _, _ = io.Copy(io.Discard, raw) })
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{silent}})
	w.ready(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := w.Dial(ctx, 0)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), silent) {
		t.Errorf("error %v, want the deadline and the gateway", err)
	}
	if took := time.Since(began); took < 450*time.Millisecond || took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}
