// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// R14: a refill that was under way when the sandbox froze waits for an answer that never comes. It starts again at the
// thaw, and does not count as one that ended unused, however often that happens: after two of these none would be opened.
func TestRefillThatHungThroughAFreezeIsDialledAgainAtTheThaw(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
	gateway := w.mesh.Gateway
	silent := w.takeSpareAndHang(t)
	for range 4 {
		w.until(t, "the refill to hang", func() bool { return gateway.Stats().Accepted >= silent })
		silent++
		w.skew.Jump(10 * time.Minute)
		w.Thawed(10 * time.Minute)
	}
	w.until(t, "the refill to hang", func() bool { return gateway.Stats().Accepted >= silent })
	gateway.SetFaults(meshsim.FaultPlan{})
	w.skew.Jump(10 * time.Minute)
	began := time.Now()
	w.Thawed(10 * time.Minute)
	w.settle(t)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the spare was back %v after the thaw, want at once, and before the dial's own 5 s", took)
	}
}

// A look-up that hangs takes no more than half of what a dial has left when older addresses are at hand, however little
// that is.
func TestLookUpThatHangsLeavesTimeForAShortDial(t *testing.T) {
	t.Parallel()
	resolver, w := startNameless(t, make(chan struct{}))
	ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond) // less than the second that a look-up may take
	defer cancel()
	asked := resolver.count()
	c, err := w.Dial(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Reset()
	if resolver.count() == asked {
		t.Error("the name was not asked for: the test shows nothing")
	}
}

// After a look-up that failed, older addresses are used at once for 5 s: not every dial waits for a name server that is
// gone.
func TestFailedLookUpIsNotWaitedForAgainForAWhile(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	resolver, w := startNameless(t, hang)
	w.dial(t, 0) // waits a second for the look-up
	for range 3 {
		wantAtOnce(t, func() { w.dial(t, 0) }) // and not after a second
	}
	asked := resolver.count()
	resolver.set(func(n *names) {
		close(hang) // ends the question that is still open
		n.hangs, n.err = nil, errors.New("server misbehaving")
	})
	waittest.Until(t, "the name to be asked for again", func() bool {
		w.skew.Jump(5 * time.Second)
		w.dial(t, 0)
		return resolver.count() > asked
	})
	asked = resolver.count()
	w.dial(t, 0)
	if n := resolver.count(); n != asked {
		t.Errorf("the name was asked for %d times within 5 s of an error", n-asked)
	}
}

// startNameless is a State that knows the address of its gateway from before, and whose look-ups hang from now on.
func startNameless(t testing.TB, hang <-chan struct{}) (*names, *world) {
	t.Helper()
	resolver := &names{addrs: addrs("127.0.0.1")}
	w := startNamed(t, resolver, "127.0.0.1")
	t.Cleanup(w.Close) // ends the look-ups
	w.dial(t, 0)
	resolver.set(func(n *names) { n.hangs = hang })
	w.skew.Jump(31 * time.Second)
	return resolver, w
}

// R11: when an older address does not answer, its error tells that it is one, and why there is no newer.
func TestErrorOfAnOlderAddressNamesTheFailedLookUp(t *testing.T) {
	t.Parallel()
	resolver := &names{addrs: addrs("127.0.0.3")} // nobody is there
	w := startNamed(t, resolver, "127.0.0.1")
	if err := w.refused(t, 0); strings.Contains(err.Error(), "older") {
		t.Errorf("the address is a new one: %v", err)
	}
	resolver.set(func(n *names) { n.err = errors.New("server misbehaving") })
	w.skew.Jump(31 * time.Second)
	err := w.refused(t, 0)
	if !errors.Is(err, tlsstate.ErrNoGateway) || !strings.Contains(err.Error(), "127.0.0.3") || !strings.Contains(err.Error(), "server misbehaving") {
		t.Errorf("error %v, want ErrNoGateway, the address and why it is an old one", err)
	}
	resolver.set(func(n *names) { n.err = nil })
	w.skew.Jump(31 * time.Second)
	if err := w.refused(t, 0); strings.Contains(err.Error(), "server misbehaving") {
		t.Errorf("the look-up succeeded meanwhile: %v", err)
	}
}

// R17: what a large write collects is held beside what it was called with, and counts in the same budget. Writes that find
// it spent send record by record.
func TestWhatLargeWritesCollectCountsInTheBudget(t *testing.T) {
	t.Parallel()
	const (
		writers = 16
		limit   = 4 * bufpool.Medium
		window  = 4 << 10
	)
	ca := certtest.NewCA(t)
	cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
	release := make(chan struct{})
	gateway := listen(t, "127.0.0.1:0", func(raw net.Conn) {
		_ = raw.(*net.TCPConn).SetReadBuffer(window)
		_ = tls.Server(raw, cfg).Handshake()
		<-release // reads nothing
	})
	t.Cleanup(func() { close(release) })
	pool := bufpool.New(limit)
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{gateway}, Buffers: pool})
	var (
		conns   []*tlsstate.Conn
		writing sync.WaitGroup
	)
	for range writers {
		c, err := w.try(t, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Time{})
		control(t, c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, window) })
		conns = append(conns, c)
	}
	for _, c := range conns {
		writing.Go(func() {
			_, err := c.Write(make([]byte, bufpool.Large))
			if err == nil {
				t.Error("a write of 256 KiB went to a peer that does not read")
			}
		})
	}
	blocked := func(c *tlsstate.Conn) (yes bool) {
		control(t, c, func(fd int) error {
			n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
			yes = n > 0
			return err
		})
		return yes
	}
	waittest.Until(t, "all writes to be blocked", func() bool {
		for _, c := range conns {
			if !blocked(c) {
				return false
			}
		}
		return true
	})
	waittest.Until(t, "what is collected to count, and not to exceed the budget", func() bool { // by a write that then gives up, for a moment
		n := pool.Lent()
		return n >= bufpool.Medium && n <= limit
	})
	for _, c := range conns {
		_ = c.Reset()
	}
	writing.Wait()
	if n := pool.Lent(); n != 0 {
		t.Errorf("%d bytes were not given back", n)
	}
}

func control(t testing.TB, c *tlsstate.Conn, f func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { failed = f(int(fd)) }), failed); err != nil {
		t.Fatal(err)
	}
}

// R8: large writes arrive whole also when there is no budget to collect them.
func TestLargeWritesArriveWithoutABudget(t *testing.T) {
	t.Parallel()
	m, doc := newMesh(t, "web")
	w := start(t, storeOf(t, doc), tlsstate.Config{Gateways: []string{m.Gateway.Addr()}, Buffers: bufpool.New(1)})
	c := w.dial(t, 0)
	for _, n := range []int{16<<10 + 1, 64 << 10, 64<<10 + 1, 256 << 10, 300_001} {
		roundTrip(t, c, string(pattern(n)))
	}
}

// Credentials that come late, after the function has started without them, open the spares: nobody calls WarmUp again.
func TestCredentialsThatComeLateOpenTheSpares(t *testing.T) {
	t.Parallel()
	m, doc := newMesh(t, "web")
	s := new(store)
	w := start(t, s, tlsstate.Config{Gateways: []string{m.Gateway.Addr()}, Upstreams: upstreams(t, "web:1234"), Spares: []int{2}})
	t.Cleanup(w.Close)
	waittest.Until(t, "a look that finds no document", func() bool { return s.count() > 0 })
	s.put(certtest.Encode(t, doc))
	waittest.Until(t, "both spares", func() bool { return w.HasSpare(0) && w.Stats().Handshakes == 2 })
}
