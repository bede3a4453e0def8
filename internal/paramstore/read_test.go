// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// The interface that tlsstate asks of a source of documents.
var _ interface {
	Fetch(ctx context.Context) ([]byte, error)
} = (*Reader)(nil)

func TestFetchReturnsTheNewestValueDecrypted(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.RequireAuth(ssmsim.Principal{AccessKeyID: "AKIDTEST", SessionToken: "session-of-test"})
	r := open(t, srv).Reader("/mesh/default/default/fn")
	large := strings.Repeat("é\"\\\n{}", 1170) // 8,190 bytes, of the kind that JSON escapes
	for _, want := range []string{"one", large, "three"} {
		srv.Put("/mesh/default/default/fn", want)
		got, err := r.Fetch(t.Context())
		if err != nil || string(got) != want {
			t.Fatalf("got %d bytes, %v; want the %d put last", len(got), err, len(want))
		}
	}
}

// The refresher owns retries and their jitter (R13): two layers of them would
// multiply in a burst of cold starts.
func TestFetchMakesExactlyOneAttempt(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	r := open(t, srv).Reader("/p")
	for _, f := range []ssmsim.Fault{ssmsim.Reset(), ssmsim.Throttled(), ssmsim.InternalError(), ssmsim.Raw(503, "text/html", "<h1>busy</h1>")} {
		srv.ResetCalls()
		srv.FailNext("", 1, f)
		if _, err := r.Fetch(t.Context()); err == nil {
			t.Error("no error")
		}
		if n := srv.Count(""); n != 1 {
			t.Errorf("%d attempts, want 1", n)
		}
	}
}

// A store closes connections that were idle while the sandbox was frozen. The first read afterwards must not fail for it: the
// function may be waiting for the leaf.
func TestAReadSurvivesAConnectionThatWasClosedMeanwhile(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.Put("/p", "value")
	r := open(t, srv).Reader("/p")
	for range 20 {
		if _, err := r.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		srv.FailNext("", 1, ssmsim.Reset()) // on the connection that was kept
		if _, err := r.Fetch(t.Context()); err != nil {
			t.Fatalf("the read on a dead connection: %v", err)
		}
	}
}

func TestACanceledFetchReturnsAtOnce(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.FailAll("", ssmsim.Hang())
	r := open(t, srv).Reader("/p")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := r.Fetch(ctx)
		failed <- err
	}()
	waittest.Until(t, "the read", func() bool { return srv.Count("GetParameter") == 1 })
	cancel()
	select {
	case err := <-failed:
		var e *Error
		if !errors.Is(err, context.Canceled) || !errors.As(err, &e) || e.kind != kindCanceled {
			t.Errorf("got %v", err)
		}
	case <-time.After(answerTimeout - 100*time.Millisecond):
		t.Error("still there after the cancellation")
	}
}

func TestADeadlineOrTheAttemptTimeoutEndsAFetch(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.FailAll("", ssmsim.Hang())
	env := lambdaEnv.with("AWS_ENDPOINT_URL_SSM", srv.URL())
	// Half a second is for the connection: without one it is ErrUnreachable.
	for what, c := range map[string]struct{ attempt, deadline time.Duration }{
		"the attempt's timeout": {500 * time.Millisecond, time.Minute},
		"the caller's deadline": {-1, 500 * time.Millisecond},
	} {
		s, err := New(Config{Getenv: env.get, AttemptTimeout: c.attempt})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
		_, err = s.Reader("/p").Fetch(ctx)
		cancel()
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// After a freeze the connection that was kept may be dead without a sign
// (FACTS A7): the answer never comes. That costs one answerTimeout, and the next
// fetch must not meet the same connection again.
func TestAConnectionThatWentSilentIsNotUsedTwice(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes answerTimeout")
	}
	srv := startSim(t)
	srv.Put("/p", "value")
	r := open(t, srv).Reader("/p")
	kept := func() bool { // the last two calls came on one connection
		if _, err := r.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := srv.Calls()
		return len(c) > 1 && c[len(c)-1].RemoteAddr == c[len(c)-2].RemoteAddr
	}
	waittest.Until(t, "the connection to be kept", kept)
	srv.FailNext("", 1, ssmsim.Hang())
	begin := time.Now()
	_, err := r.Fetch(t.Context())
	if d := time.Since(begin); !errors.Is(err, ErrTimeout) || d > defaultAttemptTimeout {
		t.Errorf("on the silent connection: %v after %v", err, d)
	}
	if v, err := r.Fetch(t.Context()); err != nil || string(v) != "value" {
		t.Errorf("after it: %q, %v", v, err)
	}
	c := srv.Calls()
	if silent, next := c[len(c)-2].RemoteAddr, c[len(c)-1].RemoteAddr; silent == next {
		t.Errorf("%s was used again", next)
	}
}

// A throttled cold start tries again within seconds: its TLS handshake, the
// dear part in a small function, must not be made again. (On a starved machine
// net/http gives a connection up now and then.)
func TestRetriesFindTheConnectionOpen(t *testing.T) {
	t.Parallel()
	const fetches = 20
	srv := startSim(t)
	srv.FailAll("", ssmsim.Throttled())
	r := open(t, srv).Reader("/p")
	for range fetches {
		_, _ = r.Fetch(t.Context())
	}
	conns := make(map[string]bool)
	for _, c := range srv.Calls() {
		conns[c.RemoteAddr] = true
	}
	if srv.Count("") != fetches || len(conns) > fetches/2 {
		t.Errorf("%d calls on %d connections", srv.Count(""), len(conns))
	}
}

// In two writes the SDK's and net/http's views of the body's end can cross, and
// the connection is closed while the answer is read: see wholeBody.
func TestARequestLeavesInOneWrite(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	first := make(chan string, 1)
	go firstSegment(l, first)
	s, err := New(Config{Getenv: lambdaEnv.with("AWS_ENDPOINT_URL", "http://"+l.Addr().String()).get})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.Reader("/p").Fetch(t.Context())
	if got := <-first; !strings.HasSuffix(got, `{"Name":"/p","WithDecryption":true}`) {
		t.Errorf("the first write has %d bytes, and not the body", len(got))
	}
}

// firstSegment sends what the first read from the first connection returns.
func firstSegment(l net.Listener, first chan<- string) {
	c, err := l.Accept()
	if err != nil {
		first <- err.Error()
		return
	}
	defer c.Close()
	b := make([]byte, 64<<10)
	n, _ := c.Read(b)
	first <- string(b[:n])
}

func TestAReaderIsSharedByManyGoroutines(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.Put("/p", "value")
	r := open(t, srv).Reader("/p")
	values := make(chan []byte)
	for range 8 {
		go func() {
			v, _ := r.Fetch(t.Context())
			values <- v
		}()
	}
	for range 8 {
		if v := <-values; !bytes.Equal(v, []byte("value")) {
			t.Errorf("got %q", v)
		}
	}
}

// How much does a cold start pay for the Store: New, the first Fetch on a new
// connection, a later one? The server is in the same process, so its share of a
// fetch is in the figures; there is no TLS in them.
func BenchmarkStore(b *testing.B) {
	srv := startSim(b)
	srv.Put("/p", strings.Repeat("x", 4000))
	env := lambdaEnv.with("AWS_ENDPOINT_URL_SSM", srv.URL())
	b.Run("step=new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := New(Config{Getenv: env.get}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("step=first-fetch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s, err := New(Config{Getenv: env.get})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := s.Reader("/p").Fetch(b.Context()); err != nil {
				b.Fatal(err)
			}
			s.Close()
		}
	})
	b.Run("step=later-fetch", func(b *testing.B) {
		s := open(b, srv)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Reader("/p").Fetch(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
