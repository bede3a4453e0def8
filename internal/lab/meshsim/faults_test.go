// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

func TestRefusedGatewayComesBackAtTheSameAddress(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	addService(t, m, "web", nil)
	open := connect(t, m, "web")
	m.Gateway.Refuse()
	m.Gateway.Refuse() // as good as once
	if _, err := net.Dial("tcp", m.Gateway.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v", err)
	}
	roundTrip(t, open, "still open")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ok(t, m.Gateway.Reopen(ctx))
	ok(t, m.Gateway.Reopen(ctx))
	roundTrip(t, connect(t, m, "web"), "back")
	ok(t, m.Gateway.Close())
	if err := m.Gateway.Reopen(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("reopen after close: %v", err)
	}
}

func TestAcceptFaultsStrikeNewConnectionsOnly(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	addService(t, m, "web", nil)
	open := connect(t, m, "web")

	m.Gateway.SetFaults(FaultPlan{Accept: AcceptReset})
	c, err := net.Dial("tcp", m.Gateway.Addr())
	if err == nil { // or the reset came before connect returned
		defer c.Close()
		ok(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = io.ReadAll(c)
	}
	if !isReset(err) {
		t.Errorf("got %v, want a reset", err)
	}

	m.Gateway.SetFaults(FaultPlan{Accept: AcceptSilent})
	c = dialRaw(t, m.Gateway.Addr())
	_, err = c.Write(helloFor(&tls.Config{ServerName: "x.example"}))
	ok(t, err)
	hangs(t, c)

	roundTrip(t, open, "not concerned")
	m.Gateway.SetFaults(FaultPlan{})
	roundTrip(t, connect(t, m, "web"), "healed")
}

// The defect it serves: a black-holed gateway, seen here in the handshake.
func TestHandshakeStallsAfterNBytesUntilHealed(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	addService(t, m, "web", nil)
	m.Gateway.SetFaults(FaultPlan{Down: ByteFault{Kind: StallBytes, After: 300}})
	raw := dialRaw(t, m.Gateway.Addr())
	tap := &wireTap{Conn: raw}
	cfg := clientConfig(t, m.CA, "web", issue(t, m.CA, "caller", LeafOptions{}))
	done := make(chan error, 1)
	c := tls.Client(tap, cfg)
	ok(t, raw.SetDeadline(time.Now().Add(patience)))
	go handshakeThen(c, done)
	got := func() int { tap.mu.Lock(); defer tap.mu.Unlock(); return len(tap.read) }
	waittest.Until(t, "300 bytes came", func() bool { return got() == 300 })
	select {
	case err := <-done:
		t.Fatalf("handshake ended: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if n := got(); n != 300 {
		t.Errorf("%d bytes came, want 300", n)
	}
	m.Gateway.SetFaultsOpen(FaultPlan{})
	ok(t, <-done)
	roundTrip(t, c, "healed")
}

func handshakeThen(c *tls.Conn, done chan<- error) { done <- c.HandshakeContext(context.Background()) }

// R5: each way in which a stream can break, after exactly the bytes before it.
func TestByteFaultsStrikeAfterExactlyNBytes(t *testing.T) {
	t.Parallel()
	const n = 50_000 // in the middle of a record
	for name, tt := range map[string]struct {
		kind ByteFaultKind
		want func(error) bool
	}{
		"reset":   {ResetBytes, isReset},
		"cut":     {CutBytes, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		"garbage": {GarbageBytes, func(err error) bool { var a tls.AlertError; return errors.As(err, &a) || err != nil && !isReset(err) }},
	} {
		for _, existing := range []bool{false, true} {
			m := newMesh(t, Config{})
			addService(t, m, "web", func(c Conn) {
				var start [1]byte
				if _, err := io.ReadFull(c, start[:]); err == nil {
					Source(1 << 20)(c)
				}
			})
			plan := FaultPlan{Down: ByteFault{Kind: tt.kind, After: n}}
			if !existing {
				m.Gateway.SetFaults(plan)
			}
			raw := dialRaw(t, m.Gateway.Addr())
			tap := &wireTap{Conn: raw}
			c, err := handshake(t, tap, clientConfig(t, m.CA, "web", issue(t, m.CA, "caller", LeafOptions{})))
			ok(t, err)
			if existing {
				// Session tickets may still be under way: nothing to count before they are in.
				m.Gateway.SetFaultsOpen(FaultPlan{})
				if k := m.Gateway.SetFaultsOpen(plan); k != 1 {
					t.Errorf("%s: set on %d connections", name, k)
				}
			}
			_, err = c.Write([]byte("s"))
			ok(t, err)
			got, err := io.ReadAll(c)
			if !tt.want(err) {
				t.Errorf("%s, existing %v: after %d bytes: %v", name, existing, len(got), err)
			}
			tap.mu.Lock()
			onWire := len(tap.read)
			tap.mu.Unlock()
			if !existing && tt.kind != GarbageBytes && onWire != n {
				t.Errorf("%s: %d bytes came, want %d", name, onWire, n)
			}
			limit := n
			if existing {
				limit = 1<<20 - 1 // counted from when the flow, which the kernel was splicing, comes under the fault
			}
			if len(got) == 0 || len(got) > limit {
				t.Errorf("%s: %d bytes of data before the fault", name, len(got))
			}
			_ = c.Close()
		}
	}
}

func TestUploadIsCutAsWell(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	done := make(chan Received, 1)
	addService(t, m, "web", Sink(func(r Received) { done <- r }))
	m.Gateway.SetFaults(FaultPlan{Up: ByteFault{Kind: CutBytes, After: 50_000}})
	c := connect(t, m, "web")
	_, _ = io.Copy(c, Pattern(1<<20))
	if r := <-done; !errors.Is(r.Err, io.ErrUnexpectedEOF) || r.Bytes == 0 || r.Bytes > 50_000 {
		t.Errorf("sidecar received %d bytes, %v", r.Bytes, r.Err)
	}
}

// A delay is latency, not a speed limit.
func TestDelayHoldsBackEachByteButNotTheNext(t *testing.T) {
	t.Parallel()
	const oneWay = 100 * time.Millisecond
	const pieces = 50
	m := newMesh(t, Config{})
	addService(t, m, "web", nil)
	m.Gateway.SetFaults(FaultPlan{Delay: oneWay})
	start := time.Now()
	c := connect(t, m, "web")
	if took := time.Since(start); took < 2*oneWay {
		t.Errorf("handshake took %v, less than a round trip", took)
	}
	start = time.Now()
	for range pieces {
		_, err := c.Write([]byte("0123456789"))
		ok(t, err)
	}
	ok(t, c.CloseWrite())
	got, err := io.ReadAll(c)
	ok(t, err)
	if took := time.Since(start); took < 2*oneWay || took > pieces*oneWay/2 {
		t.Errorf("%d pieces took %v with a round trip of %v", pieces, took, 2*oneWay)
	}
	if len(got) != 10*pieces {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestDelayedConnectionCanBeSpedUpAgain(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	addService(t, m, "web", nil)
	m.Gateway.SetFaults(FaultPlan{Delay: 20 * time.Millisecond})
	c := connect(t, m, "web")
	_, err := c.Write([]byte("slow,"))
	ok(t, err)
	m.Gateway.SetFaultsOpen(FaultPlan{})
	_, err = c.Write([]byte("fast"))
	ok(t, err)
	got := make([]byte, len("slow,fast"))
	_, err = io.ReadFull(c, got)
	ok(t, err)
	if string(got) != "slow,fast" {
		t.Errorf("got %q", got)
	}
}

func TestDripKeepsTheStreamWhole(t *testing.T) {
	t.Parallel()
	const size = 20_000
	m := newMesh(t, Config{})
	addService(t, m, "web", Source(size))
	m.Gateway.SetFaults(FaultPlan{Drip: true})
	c := connect(t, m, "web")
	ok(t, samePattern(c, size))
	if n, known := segmentsReceived(c.NetConn().(*net.TCPConn)); known && n < 50 { // in one piece it is five or so
		t.Errorf("%d bytes came in %d segments: not dripped", size, n)
	}
}

// A middlebox that lost its table: R14, R15, R19 have to cope with this.
func TestForgottenConnectionsHangWhileNewOnesWork(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	s := addService(t, m, "web", nil)
	old := connect(t, m, "web")
	roundTrip(t, old, "before")
	if n := m.Gateway.Forget(); n != 1 {
		t.Errorf("forgot %d connections", n)
	}
	_, err := old.Write([]byte("anyone?"))
	ok(t, err)
	hangs(t, old)
	s.Drop(EndRST) // from the other side nothing gets through either
	hangs(t, old)
	roundTrip(t, connect(t, m, "web"), "new")
	m.Gateway.SetFaultsOpen(FaultPlan{})
	if n := m.Gateway.Kill(-1, 0, EndFIN); n != 1 {
		t.Errorf("killed %d, want only the new connection", n)
	}
	hangs(t, old)
	if n := m.Gateway.Bury(); n != 1 {
		t.Errorf("buried %d connections", n)
	}
	waittest.Until(t, "no connection to be left", func() bool { return m.Gateway.Stats().Open == 0 })
}

func TestAFaultStrikesTheOneConnectionThatTheDestinationNames(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	peers := make(chan string, 3)
	addService(t, m, "web", func(c Conn) {
		peers <- c.RemoteAddr().String()
		Echo(c)
	})
	var conns [3]*tls.Conn
	var names [3]string
	for i := range conns {
		conns[i] = connect(t, m, "web")
		roundTrip(t, conns[i], "before")
		names[i] = <-peers
	}
	if !m.Gateway.SetFaultsOf(names[0], FaultPlan{Down: ByteFault{Kind: ResetBytes}}) || !m.Gateway.ForgetOf(names[1]) {
		t.Error("a connection that is open was not found")
	}
	if m.Gateway.SetFaultsOf("127.0.0.1:1", FaultPlan{}) || m.Gateway.ForgetOf("127.0.0.1:1") {
		t.Error("a connection was found that is none")
	}
	if _, err := conns[0].Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the first connection: %v, want a reset", err)
	}
	_, err := conns[1].Write([]byte("into nowhere"))
	ok(t, err)
	hangs(t, conns[1].NetConn())
	roundTrip(t, conns[2], "not concerned")
}

func TestIdleReaperSparesWhoTalks(t *testing.T) {
	t.Parallel()
	const idle = 500 * time.Millisecond // more than a busy machine keeps the test waiting between two words
	for _, how := range []End{EndFIN, EndRST} {
		for _, existing := range []bool{false, true} {
			t.Run(fmt.Sprintf("end=%d,existing=%t", how, existing), func(t *testing.T) {
				t.Parallel()
				m := newMesh(t, Config{})
				addService(t, m, "web", nil)
				plan := FaultPlan{Idle: idle, IdleEnd: how}
				if !existing {
					m.Gateway.SetFaults(plan)
				}
				c := connect(t, m, "web")
				if existing {
					m.Gateway.SetFaultsOpen(plan)
				}
				tick := time.NewTicker(idle / 8)
				var last time.Time
				for range 12 { // one and a half times as long as it may be silent
					<-tick.C
					last = time.Now()
					roundTrip(t, c, "talk")
				}
				tick.Stop()
				_, err := io.ReadAll(c)
				if isReset(err) != (how == EndRST) {
					t.Errorf("how %d: %v", how, err)
				}
				// The kernel counts idle time in jiffies, up to 10 ms each.
				if took := time.Since(last); took < idle-20*time.Millisecond {
					t.Errorf("reaped after %v of silence, want %v", took, idle)
				}
				waittest.Until(t, "connections are gone", func() bool { _ = c.Close(); return m.Gateway.Stats().Open == 0 })
			})
		}
	}
}

func TestKillPicksAmongTheIdle(t *testing.T) {
	t.Parallel()
	const idle = 500 * time.Millisecond // more than a busy machine takes from the last word to the kill
	m := newMesh(t, Config{Seed: 7})
	addService(t, m, "web", nil)
	conns := make([]*tls.Conn, 6)
	for i := range conns {
		conns[i] = connect(t, m, "web")
		roundTrip(t, conns[i], "up")
	}
	if n := m.Gateway.Kill(-1, time.Hour, EndRST); n != 0 {
		t.Errorf("killed %d that were not idle for an hour", n)
	}
	if !kernelKnowsIdle(t, m.Gateway) {
		t.Skip("the kernel does not say how long a connection was idle")
	}
	start := time.Now()
	waittest.Until(t, "some are idle", func() bool {
		roundTrip(t, conns[0], "busy")
		return time.Since(start) > idle+idle/2
	})
	if n := m.Gateway.Kill(3, idle, EndRST); n != 3 {
		t.Errorf("killed %d, want 3", n)
	}
	waittest.Until(t, "three are left", func() bool { return m.Gateway.Stats().Open == 3 })
	roundTrip(t, conns[0], "alive")
	if n := m.Gateway.Kill(-1, 0, EndFIN); n != 3 {
		t.Errorf("killed %d, want the rest", n)
	}
	if _, err := io.ReadAll(conns[0]); isReset(err) {
		t.Errorf("read %v, want FIN", err)
	}
}

func kernelKnowsIdle(t testing.TB, g *Gateway) bool {
	c := dialRaw(t, g.Addr())
	defer c.Close()
	_, known := sinceReceived(c)
	return known
}

func TestCloseEndsEverythingUnderEveryFault(t *testing.T) {
	t.Parallel()
	for _, plan := range []FaultPlan{
		{},
		{Accept: AcceptSilent},
		{Delay: time.Hour},
		{Down: ByteFault{Kind: StallBytes}},
		{Up: ByteFault{Kind: StallBytes}},
		{Idle: time.Hour},
	} {
		m, err := New(Config{})
		ok(t, err)
		addService(t, m, "web", Source(1<<30))
		m.Gateway.SetFaults(plan)
		c := dialRaw(t, m.Gateway.Addr())
		sni := clientConfig(t, m.CA, "web", issue(t, m.CA, "caller", LeafOptions{})).ServerName
		_, err = c.Write(helloFor(&tls.Config{ServerName: sni}))
		ok(t, err)
		waittest.Until(t, "the connection is in", func() bool {
			st := m.Gateway.Stats()
			return st.Routed == 1 || plan.Accept == AcceptSilent && st.Open == 1
		})
		ok(t, m.Close())
		ok(t, m.Close())
	}
}
