// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// coldStart is a State whose store does not answer before the test wants it to.
type coldStart struct {
	*world
	answer func() // lets the store answer
}

// startCold starts a State with one spare, unless cfg says otherwise, and closes it when the test ends.
func startCold(t testing.TB, doc mesh.Document, cfg tlsstate.Config) *coldStart {
	t.Helper()
	answered := make(chan struct{})
	source := new(store)
	encoded := certtest.Encode(t, doc)
	source.set(func(ctx context.Context) ([]byte, error) {
		select {
		case <-answered:
			return encoded, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	if cfg.Spares == nil {
		cfg.Spares = []int{1}
	}
	w := &coldStart{start(t, source, cfg), sync.OnceFunc(func() { close(answered) })}
	t.Cleanup(w.Close)
	return w
}

// warm lets the store answer, and returns when the spares are open.
func (w *coldStart) warm(t testing.TB) {
	t.Helper()
	w.answer()
	w.ready(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w.WarmUp(ctx)
	if st := w.Stats(); st.Handshakes == 0 || st.Failures > 0 {
		t.Fatalf("after the warm-up: %+v, want every handshake to succeed", st)
	}
}

// newMesh has echoing services of these names, and the document of a function.
func newMesh(t testing.TB, services ...string) (*meshsim.Mesh, mesh.Document) {
	t.Helper()
	m, err := meshsim.New(meshsim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	for _, name := range services {
		if _, err := m.AddService(name, meshsim.Echo); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := m.Document("fn")
	if err != nil {
		t.Fatal(err)
	}
	return m, doc
}

// accepts waits until a gateway has accepted n connections in all, of which open are open.
func accepts(t testing.TB, g *meshsim.Gateway, n int64, open int) {
	t.Helper()
	waittest.Until(t, "the connections to the gateway", func() bool { st := g.Stats(); return st.Accepted == n && st.Open == open })
}

// accepted wants that a gateway has accepted n connections, no more and no fewer.
func accepted(t testing.TB, g *meshsim.Gateway, n int64) {
	t.Helper()
	if got := g.Stats().Accepted; got != n {
		t.Errorf("the gateway has accepted %d connections, want %d", got, n)
	}
}

func TestTheFirstHandshakeUsesAConnectionThatWasOpenedWhileTheStoreWasRead(t *testing.T) {
	t.Parallel()
	m, doc := newMesh(t, "web")
	w := startCold(t, doc, tlsstate.Config{Gateways: []string{m.Gateway.Addr()}})
	accepts(t, m.Gateway, 1, 1)
	if w.Snapshot() != nil {
		t.Fatal("there are credentials already")
	}
	w.warm(t)
	waittest.Until(t, "the spare to be ready", func() bool { return w.HasSpare(0) })
	accepted(t, m.Gateway, 1)
}

func TestOneConnectionIsOpenedAheadForEachUpstreamWithSpares(t *testing.T) {
	t.Parallel()
	m, doc := newMesh(t, "web", "db", "cache")
	w := startCold(t, doc, tlsstate.Config{
		Upstreams: upstreams(t, "web:8080,db:8081,cache:8082"),
		Spares:    []int{3, 0, 1},
		Gateways:  []string{m.Gateway.Addr()},
	})
	accepts(t, m.Gateway, 2, 2)
	w.warm(t)
	accepted(t, m.Gateway, 4)
	if st := w.Stats(); st.Handshakes != 4 {
		t.Errorf("%+v, want every connection used", st)
	}
}

// With CONSUL_EXTENSION_WARM_CONNECTIONS=0 no handshake follows the document, and a connection would be closed unused.
func TestNothingIsOpenedAheadWithoutSpares(t *testing.T) {
	t.Parallel()
	m, doc := newMesh(t, "web")
	w := startCold(t, doc, tlsstate.Config{Gateways: []string{m.Gateway.Addr()}, Spares: []int{0}})
	waittest.Until(t, "a read of the store", func() bool { return w.store.count() > 0 })
	w.answer()
	w.ready(t)
	w.dial(t, 0)
	accepted(t, m.Gateway, 1)
}

// Section 3.1 of the design, of the list of gateways: they are chosen here as anywhere else.
func TestAConnectionIsOpenedAheadThroughAGatewayThatAnswers(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(testing.TB, *meshsim.Gateway){
		"refuses":         func(_ testing.TB, g *meshsim.Gateway) { g.Refuse() },
		"is a black hole": func(t testing.TB, g *meshsim.Gateway) { blackHole(t, g, true) },
	} {
		t.Run("the other "+name, func(t *testing.T) {
			t.Parallel()
			m, doc := newMesh(t, "web")
			bad, err := m.AddGateway()
			if err != nil {
				t.Fatal(err)
			}
			fail(t, bad)
			w := startCold(t, doc, tlsstate.Config{Gateways: []string{bad.Addr(), m.Gateway.Addr()}})
			accepts(t, m.Gateway, 1, 1)
			waittest.Until(t, "the good gateway to be remembered", func() bool { return w.First() == 1 })
			w.warm(t)
			accepted(t, m.Gateway, 1)
			accepted(t, bad, 0)
		})
	}
}

// firstConnection is a gateway in front of a destination called web. It does something of its own with the first
// connection, and says when that is done. On loopback it has arrived by then.
func firstConnection(t testing.TB, do func(*net.TCPConn)) (doc mesh.Document, gateway string, done <-chan struct{}) {
	t.Helper()
	ca := certtest.NewCA(t)
	server := serverConfig(ca.Leaf(t, id(t, ca, "web")))
	var count atomic.Int64
	first := make(chan struct{})
	gateway = listen(t, "127.0.0.1:0", func(raw net.Conn) {
		if count.Add(1) == 1 {
			do(raw.(*net.TCPConn))
			close(first)
			_, _ = io.Copy(io.Discard, raw)
			return
		}
		c := tls.Server(raw, server)
		_, _ = io.Copy(c, c)
	})
	return ca.Doc(t, certtest.Service(t, "fn")), gateway, first
}

func TestADeadConnectionIsNotUsed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*net.TCPConn){
		"ended":       func(c *net.TCPConn) { _ = c.Close() },
		"half-closed": func(c *net.TCPConn) { _ = c.CloseWrite() },
		"reset":       func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
		"spoken to":   func(c *net.TCPConn) { _, _ = io.WriteString(c, "?") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, gateway, ended := firstConnection(t, end)
			w := startCold(t, doc, tlsstate.Config{Gateways: []string{gateway}})
			<-ended
			w.warm(t)
		})
	}
}

// One that dies of the first bytes that it carries fails the spare, as any connection would. The function's dial, which had
// joined it, goes on by itself.
func TestAConnectionThatDiesInItsHandshakeDoesNotFailTheDial(t *testing.T) {
	t.Parallel()
	doc, gateway, _ := firstConnection(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
		_ = c.Close()
	})
	w := startCold(t, doc, tlsstate.Config{Gateways: []string{gateway}})
	time.AfterFunc(20*time.Millisecond, w.answer) // the dial waits by then
	w.dial(t, 0)
	if st := w.Stats(); st.Failures != 1 {
		t.Errorf("%+v, want the spare's dial to have failed", st)
	}
}

// R14: whichever clock went on in a freeze, and before anyone has noticed it.
func TestAConnectionThatWasOpenedBeforeAFreezeIsNotUsed(t *testing.T) {
	t.Parallel()
	for name, freeze := range map[string]func(*clocktest.Skew, time.Duration){
		"wall": (*clocktest.Skew).JumpWall, "monotonic": (*clocktest.Skew).JumpMono,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, doc := newMesh(t, "web")
			w := startCold(t, doc, tlsstate.Config{Gateways: []string{m.Gateway.Addr()}})
			accepts(t, m.Gateway, 1, 1)
			freeze(w.skew, 2*time.Second)
			w.warm(t)
			accepts(t, m.Gateway, 2, 1)
		})
	}
	t.Run("noticed", func(t *testing.T) {
		t.Parallel()
		m, doc := newMesh(t, "web")
		w := startCold(t, doc, tlsstate.Config{Gateways: []string{m.Gateway.Addr()}})
		accepts(t, m.Gateway, 1, 1)
		w.skew.Jump(time.Minute)
		w.Thawed(time.Minute)
		accepts(t, m.Gateway, 2, 1)
		w.warm(t)
		accepted(t, m.Gateway, 2)
	})
}

// Its parts are not parallel to each other: those of a parallel test begin after all others, and the last one takes 4 s.
func TestAConnectionThatNobodyUsesIsClosed(t *testing.T) {
	t.Parallel()
	t.Run("with the state", func(t *testing.T) {
		m, doc := newMesh(t, "web")
		w := startCold(t, doc, tlsstate.Config{Gateways: []string{m.Gateway.Addr()}})
		accepts(t, m.Gateway, 1, 1)
		w.Close()
		accepts(t, m.Gateway, 1, 0)
	})
	t.Run("if the document has no use for it", func(t *testing.T) {
		m, doc := newMesh(t)
		w := startCold(t, doc, tlsstate.Config{Upstreams: upstreams(t, "web.svc.far.peer:8080"), Gateways: []string{m.Gateway.Addr()}})
		accepts(t, m.Gateway, 1, 1)
		w.answer()
		accepts(t, m.Gateway, 1, 0)
	})
	t.Run("after 2 s, and a store that is slow does not count against the spares", func(t *testing.T) {
		m, doc := newMesh(t, "web")
		w := startCold(t, doc, tlsstate.Config{Gateways: []string{m.Gateway.Addr()}})
		for n := range int64(2) {
			accepts(t, m.Gateway, n+1, 1)
			opened := time.Now()
			accepts(t, m.Gateway, n+1, 0)
			if age := time.Since(opened); age > 4*time.Second {
				t.Errorf("closed after %v, want 2 s", age)
			}
			w.Thawed(0) // opens one more
		}
		w.warm(t)
		waittest.Until(t, "a spare", func() bool { return w.HasSpare(0) })
	})
}

// A dial that came while the store was read shares the spare's handshake, however long the store took.
func TestADialThatWaitedForTheStoreJoinsTheSpare(t *testing.T) {
	t.Parallel()
	m, doc := newMesh(t, "web")
	for range 5 { // on a machine that pauses the dial may come too late to wait, or the spare to be waited for
		before := m.Gateway.Stats().Accepted
		w := startCold(t, doc, tlsstate.Config{Gateways: []string{m.Gateway.Addr()}})
		waittest.Until(t, "the spare's connection", func() bool { return m.Gateway.Stats().Accepted > before })
		w.skew.JumpMono(time.Second)
		time.AfterFunc(20*time.Millisecond, w.answer) // the dial waits by then
		w.dial(t, 0)
		if w.Stats().Spares == 1 {
			return
		}
	}
	t.Error("in none of five starts was the dial given the spare")
}
