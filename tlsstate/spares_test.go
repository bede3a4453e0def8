// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// spareWorld is a mesh with one service, and a state with spare connections to it.
type spareWorld struct {
	*tlsstate.State
	mesh    *meshsim.Mesh
	sidecar *meshsim.Sidecar
	skew    clocktest.Skew
	source  *spareSource
}

// spareSource is a store whose document can be replaced.
type spareSource struct {
	mu  sync.Mutex
	doc []byte
}

func (s *spareSource) Fetch(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doc, nil
}

// newSpareWorld has its spare connections open when it returns, unless they are short-lived.
func newSpareWorld(t testing.TB, h meshsim.Handler, cfg tlsstate.Config) *spareWorld {
	t.Helper()
	w := &spareWorld{source: new(spareSource)}
	var err error
	if w.mesh, err = meshsim.New(meshsim.Config{}); err != nil {
		t.Fatal(err)
	}
	if w.sidecar, err = w.mesh.AddService("web", h); err != nil {
		t.Fatal(err)
	}
	w.newDocument(t)
	upstream, err := mesh.ParseUpstream("web:1234")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Upstreams = []mesh.Upstream{upstream}
	cfg.Gateways = []string{w.mesh.Gateway.Addr()}
	cfg.Source = w.source
	cfg.Clock = w.skew.Now
	if cfg.Spares == nil {
		cfg.Spares = []int{1}
	}
	if w.State, err = tlsstate.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { w.Run(ctx); close(ran) }()
	t.Cleanup(func() {
		cancel()
		<-ran
		w.State.Close()
		_ = w.mesh.Close()
	})
	w.WarmUp(t.Context())
	if cfg.SpareMaxIdle == 0 { // else they may be gone before that has been seen
		w.settle(t)
	}
	return w
}

func (w *spareWorld) newDocument(t testing.TB) {
	t.Helper()
	doc, err := w.mesh.Document("fn")
	if err != nil {
		t.Fatal(err)
	}
	w.source.mu.Lock()
	w.source.doc = certtest.Encode(t, doc)
	w.source.mu.Unlock()
}

// settle waits until a spare can be handed out, and has been for some milliseconds: its session tickets, which come after
// the handshake, have likely been read. A test that needs a spare takes one by takeSpare all the same.
func (w *spareWorld) settle(t testing.TB) {
	t.Helper()
	ready := 0
	w.until(t, "a spare to be ready", func() bool {
		st := w.sidecar.Stats()
		if ready++; !w.HasSpare(0) || st.Handshakes+st.HandshakesFailed < w.Stats().Handshakes { // the sidecar has not sent them yet
			ready = 0
		}
		return ready == 10
	})
}

func (w *spareWorld) until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !waittest.Within(waittest.Patience, condition) {
		t.Fatalf("waited in vain for %s: %+v", what, w.Stats())
	}
}

func (w *spareWorld) dial(t testing.TB) *tlsstate.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := w.Dial(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// takeSpare dials until it is given a spare: one that is just reading a session ticket is passed over.
func (w *spareWorld) takeSpare(t testing.TB) (c *tlsstate.Conn) {
	t.Helper()
	w.until(t, "a spare to be handed out", func() bool {
		used := w.Stats().Spares
		if c = w.dial(t); w.Stats().Spares > used {
			return true
		}
		_ = c.Close()
		w.settle(t)
		return false
	})
	return c
}

// takeSpareAndHang takes the spare, and makes the gateway accept and say nothing from then on: first the spare's replacement, which is
// the connection of the number that is returned, counted from 1.
func (w *spareWorld) takeSpareAndHang(t testing.TB) (replacement int64) {
	t.Helper()
	gateway := w.mesh.Gateway
	w.until(t, "a spare to be handed out", func() bool {
		replacement = gateway.Stats().Accepted + 1
		gateway.SetFaults(meshsim.FaultPlan{Accept: meshsim.AcceptSilent})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, err := w.Dial(ctx, 0)
		if err != nil { // it was passed over: see takeSpare
			gateway.SetFaults(meshsim.FaultPlan{})
			w.settle(t)
			return false
		}
		t.Cleanup(func() { _ = c.Reset() })
		_ = c.SetDeadline(time.Now().Add(patience))
		greet(t, c) // its answer lets the refill begin
		return true
	})
	w.until(t, "the replacement to hang", func() bool { return gateway.Stats().Accepted >= replacement })
	return replacement
}

// greet shows that a connection to an echo is up.
func greet(t testing.TB, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("echo of hello is %q, %v", got, err)
	}
}

func TestASpareConnectionNeedsNoHandshakeAndIsReplacedAfterItsFirstAnswer(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
	for range 5 {
		// A machine that pauses may let the replacement be there before this test has looked: that tells nothing.
		inFive(t, "a dial that takes a spare, without a handshake", func() bool {
			before := w.Stats()
			c := w.dial(t)
			st := w.Stats()
			greet(t, c)
			w.settle(t)
			_ = c.Close()
			return st.Handshakes == before.Handshakes && st.Spares == before.Spares+1
		})
	}
}

// R15: a spare that its peer or something on the way has ended is never handed out, however it was ended.
func TestADeadSpareIsNeverHandedOut(t *testing.T) {
	for name, how := range map[string]meshsim.End{"fin": meshsim.EndFIN, "reset": meshsim.EndRST} {
		t.Run(name+" by the gateway", func(t *testing.T) {
			t.Parallel()
			w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
			for range 100 {
				w.mesh.Gateway.Kill(100, 0, how) // our kernel knows when this returns; the spare's reader may not
				c := w.dial(t)
				greet(t, c)
				_ = c.Close()
			}
		})
	}
	for name, how := range map[string]meshsim.End{"close_notify": meshsim.EndNotify, "fin": meshsim.EndFIN, "reset": meshsim.EndRST} {
		t.Run(name+" by the sidecar", func(t *testing.T) {
			t.Parallel()
			w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
			for range 20 {
				before := w.Stats().Handshakes
				w.sidecar.Drop(how)
				w.until(t, "the end to arrive", func() bool { return !w.HasSpare(0) || w.Stats().Handshakes > before })
				c := w.dial(t)
				greet(t, c)
				_ = c.Close()
				w.settle(t)
			}
		})
	}
}

// R14, R15: a spare that grew too old is not handed out, whichever clock says so, and after a freeze it is replaced
// before it is asked for.
func TestASpareThatIsTooOldIsReplaced(t *testing.T) {
	for name, jump := range map[string]func(*clocktest.Skew, time.Duration){
		"wall": (*clocktest.Skew).JumpWall, "mono": (*clocktest.Skew).JumpMono, "both": (*clocktest.Skew).Jump,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
			jump(&w.skew, 61*time.Second)
			c := w.dial(t)
			greet(t, c)
			_ = c.Close()
			if st := w.Stats(); st.Spares != 0 {
				t.Errorf("%+v: a spare of 61 s was handed out", st)
			}
			w.settle(t)
			before := w.Stats().Handshakes
			jump(&w.skew, 400*time.Second)
			w.Thawed(400 * time.Second)
			w.settle(t)
			if st := w.Stats(); st.Handshakes != before+1 {
				t.Errorf("%d handshakes after the thaw, want 1: the spare's replacement", st.Handshakes-before)
			}
			c = w.takeSpare(t) // the replacement
			greet(t, c)
			_ = c.Close()
		})
	}
}

// R2, R15: a swap replaces the spares of the generation before.
func TestASwapReplacesTheSpares(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{Refresh: 100 * time.Millisecond})
	for range 5 {
		if err := w.mesh.Rotate(); err != nil {
			t.Fatal(err)
		}
		w.newDocument(t)
		want := w.Snapshot().Generation() + 1
		w.until(t, "the new document", func() bool { return w.Snapshot().Generation() == want })
		c := w.dial(t)
		if got := c.Generation(); got != want {
			t.Errorf("a connection of generation %d was handed out, want %d", got, want)
		}
		greet(t, c)
		_ = c.Close()
	}
}

// R8, R15: what a server that speaks first has said arrives once and in order; if it ended after that, the spare is dead.
func TestAServerThatSpeaksFirstWorksThroughASpare(t *testing.T) {
	t.Parallel()
	const banner = "220 ready when you are\r\n"
	w := newSpareWorld(t, meshsim.Banner(banner), tlsstate.Config{})
	for range 5 {
		c := w.takeSpare(t)
		got := make([]byte, len(banner))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != banner {
			t.Fatalf("the greeting is %q, %v", got, err)
		}
		greet(t, c)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
			t.Errorf("%q and %v after the end", rest, err)
		}
		_ = c.Close()
	}
	w.settle(t)
	before := w.Stats().Handshakes
	w.sidecar.Drop(meshsim.EndNotify)
	w.until(t, "the end to arrive", func() bool { return !w.HasSpare(0) || w.Stats().Handshakes > before })
	c := w.dial(t)
	defer c.Close()
	got := make([]byte, len(banner))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != banner {
		t.Fatalf("after the spare had ended the greeting is %q, %v", got, err)
	}
	greet(t, c)
}

// After two spares in a row that nobody used, none is opened until the function connects again.
func TestSparesThatNobodyUsesAreNotRenewedForEver(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{SpareMaxIdle: 30 * time.Millisecond})
	w.until(t, "both to end unused", func() bool { return w.Resting(0) && w.sidecar.Stats().Open == 0 })
	if st := w.Stats(); st.Handshakes != 2 {
		t.Errorf("%d handshakes, want 2", st.Handshakes)
	}
	c := w.dial(t)
	greet(t, c)
	_ = c.Close()
	w.until(t, "spares again", func() bool { return w.Stats().Handshakes > 3 })
}

// A destination that is down is not asked again and again for a spare.
func TestADestinationThatIsDownIsNotHammered(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
	w.mesh.Gateway.SetFaults(meshsim.FaultPlan{Accept: meshsim.AcceptReset})
	w.mesh.Gateway.Kill(100, 0, meshsim.EndRST)
	w.until(t, "the refill to fail", func() bool { return w.Stats().Failures > 0 && w.Resting(0) })
	if st := w.Stats(); st.Failures > 2 {
		t.Errorf("%d attempts at a destination that is down, want 2 at the most", st.Failures)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := w.Dial(ctx, 0); err == nil {
		t.Error("a dial succeeded")
	}
	w.mesh.Gateway.SetFaults(meshsim.FaultPlan{})
	c := w.dial(t)
	greet(t, c)
	_ = c.Close()
	w.settle(t)
}

// A dial that comes while a spare is being dialled takes that one, and does not shake hands a second time.
func TestADialJoinsTheRefillUnderWay(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
	w.mesh.Gateway.SetFaults(meshsim.FaultPlan{Delay: 20 * time.Millisecond})
	// A machine that pauses may let the refill end before the dial, or the next one before this test has looked: that tells nothing.
	inFive(t, "a dial with one handshake, the refill's", func() bool {
		a := w.dial(t)
		greet(t, a) // the refill starts, and takes 40 ms or more
		w.until(t, "the refill", func() bool { return w.IsDialling(0) || w.HasSpare(0) })
		before := w.Stats()
		b := w.dial(t)
		st := w.Stats() // before b's own refill
		greet(t, b)
		_ = a.Close()
		_ = b.Close()
		w.settle(t)
		return st.Handshakes == before.Handshakes+1 && st.Spares == before.Spares+1
	})
}

// inFive demands that one of five attempts succeeds: one alone may tell nothing on a machine that pauses.
func inFive(t testing.TB, what string, try func() bool) {
	t.Helper()
	for range 5 {
		if try() {
			return
		}
	}
	t.Errorf("none of five attempts was %s", what)
}

// A state that was closed has no spare, and opens none.
func TestACloseEndsTheSpares(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{Spares: []int{3}})
	w.until(t, "three spares", func() bool { return w.sidecar.Stats().Open == 3 })
	w.State.Close()
	w.until(t, "their end", func() bool { return w.sidecar.Stats().Open == 0 })
	c := w.dial(t)
	greet(t, c)
	_ = c.Close()
	w.until(t, "the connection's end", func() bool { return w.sidecar.Stats().Open == 0 })
}

// Many connections, while spares are killed at random: none fails, and each says exactly what it was sent.
func TestConnectionsSucceedWhileSparesAreKilledAtRandom(t *testing.T) {
	t.Parallel()
	total := 400
	if testing.Short() {
		total = 100
	}
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{Spares: []int{2}})
	ends := []meshsim.End{meshsim.EndFIN, meshsim.EndRST}
	reaper := make(chan struct{})
	busy := new(sync.RWMutex) // connections in use are not the reaper's prey
	var reaped sync.WaitGroup
	reaped.Go(func() {
		for {
			select {
			case <-reaper:
				return
			case <-time.After(rand.N(3 * time.Millisecond)):
				busy.Lock()
				w.mesh.Gateway.Kill(2, 0, ends[rand.N(len(ends))])
				busy.Unlock()
			}
		}
	})
	for i := range total {
		func() {
			busy.RLock()
			defer busy.RUnlock()
			c := w.dial(t)
			defer c.Close()
			sent := make([]byte, rand.N(2000)+1)
			for j := range sent {
				sent[j] = byte(i + j)
			}
			if _, err := c.Write(sent); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			got, err := io.ReadAll(c)
			if err != nil || string(got) != string(sent) {
				t.Fatalf("connection %d: %d of %d bytes came back, %v", i, len(got), len(sent), err)
			}
		}()
	}
	close(reaper)
	reaped.Wait()
	if st := w.Stats(); st.Spares == 0 {
		t.Errorf("%+v: no spare was used, so that the test shows nothing", st)
	}
}

// R9: a dial that joins a spare which does not come goes its own way in time.
func TestADialDoesNotWaitForASpareThatHangs(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
	w.takeSpareAndHang(t)
	w.mesh.Gateway.SetFaults(meshsim.FaultPlan{})
	began := time.Now()
	b := w.dial(t)
	defer b.Close()
	greet(t, b)
	if took := time.Since(began); took > 4*time.Second { // the spare's own limit is 5 s
		t.Errorf("the dial took %v, want little more than 300 ms", took)
	}
}
