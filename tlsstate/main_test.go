// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

func TestMain(m *testing.M) {
	waittest.Parallel(6)
	goleak.VerifyTestMain(m)
}

// patience bounds what these tests do with a connection.
const patience = waittest.Patience

// store is a Source in memory. The zero value says that there is no document.
type store struct {
	mu     sync.Mutex
	answer func(context.Context) ([]byte, error)
	reads  []time.Time
}

var _ tlsstate.Source = (*store)(nil)

func (s *store) Fetch(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	answer := s.answer
	s.reads = append(s.reads, time.Now())
	s.mu.Unlock()
	if answer == nil {
		return nil, errNotFound
	}
	return answer(ctx)
}

type storeError string

func (e storeError) Error() string { return string(e) }

const (
	errNotFound  = storeError("parameter not found")
	errThrottled = storeError("rate exceeded")
)

func (s *store) set(answer func(context.Context) ([]byte, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *store) put(doc []byte) {
	s.set(func(context.Context) ([]byte, error) { return bytes.Clone(doc), nil })
}

func (s *store) fail(err error) { s.set(func(context.Context) ([]byte, error) { return nil, err }) }

// hang makes every read last until its context ends.
func (s *store) hang() {
	s.set(func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
}

// times returns when the store was read.
func (s *store) times() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.reads...)
}

func (s *store) count() int { return len(s.times()) }

// storeOf is a store that holds doc.
func storeOf(t testing.TB, doc mesh.Document) *store {
	t.Helper()
	s := new(store)
	s.put(certtest.Encode(t, doc))
	return s
}

// world is a State that runs until the test ends.
type world struct {
	*tlsstate.State
	store *store
	skew  *clocktest.Skew
	log   *waittest.Log
}

// start runs a State. What cfg leaves out is given: an upstream called web, a gateway that refuses, a clock that can be
// moved, a log that is kept.
func start(t testing.TB, source *store, cfg tlsstate.Config) *world {
	t.Helper()
	w := &world{store: source, skew: new(clocktest.Skew), log: new(waittest.Log)}
	cfg.Source = source
	cfg.Clock = w.skew.Now
	cfg.Logger = slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if cfg.Upstreams == nil {
		cfg.Upstreams = upstreams(t, "web:8080")
	}
	if cfg.Gateways == nil {
		cfg.Gateways = []string{"127.0.0.1:1"}
	}
	state, err := tlsstate.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.State = state
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { state.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return w
}

// swap replaces the document and waits until it is in use.
func (w *world) swap(t testing.TB, doc mesh.Document) {
	t.Helper()
	before := w.ready(t).Generation()
	w.store.put(certtest.Encode(t, doc))
	waittest.Until(t, "the new document in use", func() bool {
		w.due()
		return w.Snapshot().Generation() == before+1
	})
}

// due makes a refresh due. One that ends in the same moment may count as later, so that this has to be repeated.
func (w *world) due() {
	w.skew.JumpMono(time.Hour)
	w.Thawed(time.Hour)
}

// readAgain has the document read once more: what was to be said about the one before has been said by then.
func (w *world) readAgain(t testing.TB) {
	t.Helper()
	reads := w.store.count()
	waittest.Until(t, "another read", func() bool {
		w.due()
		return w.store.count() > reads
	})
}

func (w *world) ready(t testing.TB) *tlsstate.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	snap, err := w.Ready(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// try dials an upstream.
func (w *world) try(t testing.TB, upstream int) (*tlsstate.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := w.Dial(ctx, upstream)
	if err == nil {
		t.Cleanup(func() { _ = c.Reset() })
		_ = c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// dial dials an upstream that echoes, and shows that it does; session tickets have arrived then.
func (w *world) dial(t testing.TB, upstream int) *tlsstate.Conn {
	t.Helper()
	c, err := w.try(t, upstream)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, "hello")
	return c
}

// refused dials an upstream and wants that to fail.
func (w *world) refused(t testing.TB, upstream int) error {
	t.Helper()
	_, err := w.try(t, upstream)
	if err == nil {
		t.Fatal("the connection was made, want it refused")
	}
	return err
}

func upstreams(t testing.TB, list string) []mesh.Upstream {
	t.Helper()
	us, err := mesh.ParseUpstreams(list)
	if err != nil {
		t.Fatal(err)
	}
	return us
}

// serverConfig is that of a destination which shows leaf and wants some client certificate.
func serverConfig(leaf *meshsim.Leaf) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{leaf.Certificate}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS10}
}

// destination echoes over TLS on a loopback port until the test ends, and returns its address.
func destination(t testing.TB, cfg *tls.Config) string {
	t.Helper()
	return listen(t, "127.0.0.1:0", func(raw net.Conn) {
		c := tls.Server(raw, cfg)
		_, _ = io.Copy(c, c)
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, raw)
	})
}

// listen handles the connections to an address until the test ends, and returns the address.
func listen(t testing.TB, addr string, handle func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ln, handle)
	return ln.Addr().String()
}

// serveOn handles the connections to a listener until the test ends.
func serveOn(t testing.TB, ln net.Listener, handle func(net.Conn)) {
	var (
		handlers sync.WaitGroup
		mu       sync.Mutex
		open     []net.Conn
	)
	handlers.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			handlers.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		handlers.Wait()
	})
}

// roundTrip shows that a connection to an echoing upstream is up.
func roundTrip(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatalf("writing %q: %v", text, err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("echo of %q is %q, %v", text, got, err)
	}
}

// pattern returns n bytes that do not repeat.
func pattern(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}
