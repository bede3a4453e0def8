// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/proxy"
)

func TestMain(m *testing.M) {
	waittest.Parallel(8) // they wait for the kernel and for timeouts, 45 s in all, and compute for two
	goleak.VerifyTestMain(m)
}

// patience bounds what these tests do with a connection.
const patience = waittest.Patience

// atOnce is less than anything that the proxy itself waits for, and enough for a machine that pauses.
const atOnce = 5 * time.Second

// pairs are the kinds of upstream legs: how Dial turns a TCP connection into a leg.
var pairs = map[string]func(*net.TCPConn) net.Conn{
	"spliced": func(c *net.TCPConn) net.Conn { return c },
	"copied":  func(c *net.TCPConn) net.Conn { return copied{c} },
}

// copied hides that a connection is a socket of its own, as a TLS connection does, but not its capabilities.
type copied struct{ *net.TCPConn }

func (c copied) Reset() error {
	_ = c.SetLinger(0)
	return c.Close()
}

// forBothPairs runs a test with an upstream leg of each kind, beside all other tests.
func forBothPairs(t *testing.T, test func(t *testing.T, leg func(*net.TCPConn) net.Conn)) {
	t.Parallel()
	for name, leg := range pairs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, leg)
		})
	}
}

// world is a proxy between a function, which the test plays, and one upstream.
type world struct {
	*proxy.Server
	addr string
	log  *waittest.Log
}

// start serves one route with the given Dial until the test ends.
func start(t testing.TB, cfg proxy.Config, dial func(context.Context) (net.Conn, error)) *world {
	t.Helper()
	w := &world{log: new(waittest.Log)}
	cfg.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	w.Server = proxy.New(cfg)
	addr, err := w.Listen(t.Context(), "127.0.0.1:0", proxy.Route{Name: "web", Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	w.addr = addr.String()
	served := make(chan error, 1)
	go func() { served <- w.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.Shutdown(ctx)
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Serve returned %v, want ErrServerClosed", err)
		}
	})
	return w
}

// upstream listens, handles each connection, and returns a Dial to it.
func upstream(t testing.TB, leg func(*net.TCPConn) net.Conn, handle func(*net.TCPConn)) func(context.Context) (net.Conn, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		handlers.Wait()
	})
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return nil, err
		}
		return leg(c.(*net.TCPConn)), nil
	}
}

// connect opens a connection of the function, which ends with the test.
func (w *world) connect(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// wantRefused connects and checks that the connection is reset without a byte: that may happen before connect returns.
func (w *world) wantRefused(t testing.TB) {
	t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if got := wantReset(t, c); len(got) != 0 {
		t.Errorf("%d bytes came from nowhere", len(got))
	}
}

// words is a Dial to an upstream that reads to the end, and what it has read of each connection.
func words(t testing.TB) (dial func(context.Context) (net.Conn, error), heard <-chan string) {
	t.Helper()
	said := make(chan string, 200)
	return upstream(t, pairs["copied"], func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		said <- string(b)
	}), said
}

// lastWords is what a function says that has no more time.
const lastWords = "last words"

// sayLastWords makes n connections, and ends each with its last words.
func sayLastWords(t testing.TB, addr string, n int) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, lastWords)
		_ = c.Close()
	}
}

// wantLastWords waits until the upstream has heard them n times.
func wantLastWords(t testing.TB, heard <-chan string, n int) {
	t.Helper()
	for i := range n {
		select {
		case got := <-heard:
			if got != lastWords {
				t.Errorf("%q arrived", got)
			}
		case <-time.After(patience):
			t.Fatalf("%d of %d connections were dropped", n-i, n)
		}
	}
}

// drain shuts down a server that has time for it.
func drain(t testing.TB, s *proxy.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// echo sends everything back, and its end with it.
func echo(c *net.TCPConn) {
	if _, err := io.Copy(c, c); err == nil {
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
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

// wantReset reads what is left and checks that it ends with a reset, not with a clean end.
func wantReset(t testing.TB, c net.Conn) []byte {
	t.Helper()
	got, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the function saw %d bytes and %v, want a reset", len(got), err)
	}
	return got
}

// stopped is a clock that goes on when a test says so. The zero value is ready to use.
type stopped struct{ passed, reads atomic.Int64 }

func (s *stopped) Now() clock.Instant {
	s.reads.Add(1)
	d := time.Duration(s.passed.Load())
	return clock.At(time.Unix(1_700_000_000, 0).Add(d), time.Hour+d)
}

func (s *stopped) pass(d time.Duration) { s.passed.Add(int64(d)) }

// looked waits until a drain has looked at the time, as it does fifty times a second; others do now and then.
func (s *stopped) looked(t testing.TB) {
	t.Helper()
	reads := s.reads.Load()
	waittest.Until(t, "a look at the clock", func() bool { return s.reads.Load() > reads+2 })
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
