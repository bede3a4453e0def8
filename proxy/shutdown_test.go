// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/proxy"
)

// R16: what a function sent before it ended arrives, although the upstream was still being dialled and reads slowly.
func TestADrainDeliversWhatTheFunctionSentBeforeItEnded(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		received := make(chan int, 1)
		dial := upstream(t, leg, func(c *net.TCPConn) {
			time.Sleep(50 * time.Millisecond)
			b, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("the upstream saw %v", err)
			}
			received <- len(b)
		})
		dialling := make(chan struct{})
		w := start(t, proxy.Config{}, func(ctx context.Context) (net.Conn, error) {
			close(dialling)
			time.Sleep(100 * time.Millisecond)
			return dial(ctx)
		})
		c := w.connect(t)
		<-dialling
		const sent = 100_000
		if _, err := c.Write(make([]byte, sent)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := w.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if n := <-received; n != sent {
			t.Errorf("%d of %d bytes arrived", n, sent)
		}
	})
}

// R16: connections that wait in the kernel when the shutdown begins are taken too.
func TestADrainTakesConnectionsThatWaitInTheKernel(t *testing.T) {
	t.Parallel()
	const waiting = 50
	received := make(chan string, waiting)
	dial := upstream(t, pairs["copied"], func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		received <- string(b)
	})
	s := proxy.New(proxy.Config{})
	addr, err := s.Listen(t.Context(), "127.0.0.1:0", proxy.Route{Name: "web", Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	for range waiting { // nothing is accepted yet
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "last words")
		_ = c.Close()
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	eventually(t, "the first to be accepted", func() bool { return s.Stats().Accepted > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	for range waiting {
		select {
		case got := <-received:
			if got != "last words" {
				t.Errorf("%q arrived", got)
			}
		case <-time.After(patience):
			t.Fatal("a connection was dropped")
		}
	}
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
			if took := time.Since(began); took > time.Second {
				t.Errorf("the drain took %v, want about 200 ms", took)
			}
			wantReset(t, c)
			if n := w.Stats().Ended[proxy.CauseShutdown]; n != 1 {
				t.Errorf("ended: %v", w.Stats().Ended)
			}
		})
		t.Run("moving", func(t *testing.T) {
			const total = 20
			w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
				for range total {
					_, _ = c.Write([]byte("x"))
					time.Sleep(50 * time.Millisecond)
				}
			}))
			c := w.connect(t)
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				ended <- w.Shutdown(ctx)
			}()
			got, err := io.ReadAll(c)
			if len(got) != total-1 || err != nil {
				t.Errorf("%d bytes came during the drain, and then %v; want %d and the end", len(got), err, total-1)
			}
			_ = c.Close()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		t.Run("moving without end", func(t *testing.T) {
			w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
				for {
					if _, err := c.Write([]byte("x")); err != nil {
						return
					}
					time.Sleep(10 * time.Millisecond)
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
			if took := time.Since(began); took < 400*time.Millisecond || took > 2*time.Second {
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
	if took := time.Since(began); took > time.Second {
		t.Errorf("the drain took %v", took)
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
