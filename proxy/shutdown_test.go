// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/proxy"
)

// R16: what a function sent before it ended arrives, although the upstream was still being dialled and reads slowly.
func TestADrainDeliversWhatTheFunctionSentBeforeItEnded(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		received := make(chan int, 1)
		dial := upstream(t, leg, func(c *net.TCPConn) {
			time.Sleep(50 * time.Millisecond) // the upstream is slow
			b, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("the upstream saw %v", err)
			}
			received <- len(b)
		})
		dialling := make(chan struct{})
		w := start(t, proxy.Config{}, func(ctx context.Context) (net.Conn, error) {
			close(dialling)
			time.Sleep(100 * time.Millisecond) // and so is the way there
			return dial(ctx)
		})
		c := w.connect(t)
		<-dialling
		const sent = 100_000
		if _, err := c.Write(make([]byte, sent)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		drain(t, w.Server)
		if n := <-received; n != sent {
			t.Errorf("%d of %d bytes arrived", n, sent)
		}
	})
}

// R16: connections that wait in the kernel when the shutdown begins are taken too.
func TestADrainTakesConnectionsThatWaitInTheKernel(t *testing.T) {
	t.Parallel()
	drainWaiting(t, 50, proxy.Config{})
}

// drainWaiting wants that a drain takes all of so many connections, which were there before the server accepted the first.
func drainWaiting(t *testing.T, waiting int, cfg proxy.Config) {
	t.Helper()
	dial, heard := words(t)
	s := proxy.New(cfg)
	addr, err := s.Listen(t.Context(), "127.0.0.1:0", proxy.Route{Name: "web", Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	sayLastWords(t, addr.String(), waiting)
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	waittest.Until(t, "the first to be accepted", func() bool { return s.Stats().Accepted > 0 })
	drain(t, s)
	if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if n := s.Stats().Accepted; n != int64(waiting) {
		t.Errorf("%d of %d connections were accepted", n, waiting)
	}
	wantLastWords(t, heard, waiting)
}

// R16: a silent connection does not hold up the end, one on which bytes move may use the time that there is.
func TestADrainWaitsOnlyWhileBytesMove(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		t.Run("silent", func(t *testing.T) {
			w := start(t, proxy.Config{}, upstream(t, leg, echo))
			c := w.connect(t)
			roundTrip(t, c, "hello")
			began := time.Now()
			if err := w.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 2*time.Second { // which is all that Lambda gives
				t.Errorf("the drain took %v, want about 200 ms", took)
			}
			wantReset(t, c)
			if n := w.Stats().Ended[proxy.CauseShutdown]; n != 1 {
				t.Errorf("ended: %v", w.Stats().Ended)
			}
		})
		t.Run("moving", func(t *testing.T) {
			var now stopped // a machine that pauses does not make the connection silent
			move := make(chan struct{})
			w := start(t, proxy.Config{Clock: now.Now}, upstream(t, leg, func(c *net.TCPConn) {
				for range move {
					_, _ = c.Write([]byte("x"))
				}
			}))
			c := w.connect(t)
			moves := func() {
				t.Helper()
				move <- struct{}{}
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Fatalf("a byte that moved in time did not arrive: %v", err)
				}
			}
			end := sync.OnceFunc(func() { close(move) })
			defer end()
			moves()
			ended := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				ended <- w.Shutdown(ctx)
			}()
			for range 20 { // for two seconds in all
				now.looked(t)
				now.pass(100 * time.Millisecond)
				now.looked(t)
				moves()
			}
			end()
			if rest, err := io.ReadAll(c); len(rest) != 0 || err != nil {
				t.Errorf("%d bytes and %v came after the last byte, want the end", len(rest), err)
			}
			_ = c.Close()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		t.Run("moving without end", func(t *testing.T) {
			var now stopped // as above
			w := start(t, proxy.Config{Clock: now.Now}, upstream(t, leg, func(c *net.TCPConn) {
				for {
					if _, err := c.Write([]byte("x")); err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond) // a stream, and not as fast as it can be
				}
			}))
			c := w.connect(t)
			go func() { _, _ = io.Copy(io.Discard, c) }()
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			began := time.Now()
			if err := w.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown: %v, want that of its context", err)
			}
			if took := time.Since(began); took < 400*time.Millisecond || took > 5*time.Second {
				t.Errorf("the drain took %v, want the 500 ms that it was given", took)
			}
		})
	})
}

// R16: nothing is accepted any more, and a dial that nobody waits for ends.
func TestADrainEndsAPointlessDialAndAcceptsNothing(t *testing.T) {
	t.Parallel()
	dialling := make(chan struct{})
	w := start(t, proxy.Config{DialTimeout: patience}, func(ctx context.Context) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	c := w.connect(t)
	<-dialling
	began := time.Now()
	if err := w.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > atOnce {
		t.Errorf("the drain took %v, and the dial had %v", took, patience)
	}
	wantReset(t, c)
	if _, err := net.Dial("tcp", w.addr); err == nil {
		t.Error("a connection was accepted after the shutdown")
	}
}

func TestTheLifeOfAServer(t *testing.T) {
	t.Parallel()
	s := proxy.New(proxy.Config{})
	if _, err := s.Listen(t.Context(), "127.0.0.1:1e9", proxy.Route{Name: "web"}); err == nil {
		t.Error("an impossible address was bound")
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve returned %v, want its context's error", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("a second Shutdown: %v", err)
	}
	if err := s.Serve(t.Context()); !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	if _, err := s.Listen(t.Context(), "127.0.0.1:0", proxy.Route{Name: "web"}); !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("Listen after Shutdown: %v", err)
	}
}

// A listener that is added while the server runs is served.
func TestListenWhileServing(t *testing.T) {
	t.Parallel()
	dial := upstream(t, pairs["copied"], echo)
	w := start(t, proxy.Config{}, dial)
	roundTrip(t, w.connect(t), "one")
	addr, err := w.Listen(t.Context(), "127.0.0.1:0", proxy.Route{Name: "web", Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	w.addr = addr.String()
	roundTrip(t, w.connect(t), "two")
}
