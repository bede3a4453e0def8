// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/proxy"
)

// R9: a function that has ended its own direction may have asked for nothing more than the end, and gets it.
func TestAnEmptyAnswerAfterTheFunctionsEndIsACleanEnd(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }))
		c := w.connect(t)
		_, _ = io.WriteString(c, "nothing to say to that")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
			t.Errorf("%q and %v, want a clean end", got, err)
		}
	})
}

// R19: a connection is as silent as it is, not as old as it is. What has moved since the last look, before a freeze of moments,
// moved just before it.
func TestAnOldConnectionThatWasJustUsedOutlivesAShortFreeze(t *testing.T) {
	t.Parallel()
	var skew clocktest.Skew
	w := start(t, proxy.Config{Clock: skew.Now, Watch: &clock.Watch{Clock: skew.Now}}, upstream(t, pairs["copied"], echo))
	c := w.connect(t)
	roundTrip(t, c, "hello")
	for range 700 { // 350 s in which the process runs
		skew.Jump(500 * time.Millisecond)
		w.Thaw()
	}
	w.Sweep()
	roundTrip(t, c, "in use")
	skew.Jump(2 * time.Second)
	w.Thaw()
	roundTrip(t, c, "still here")
	if n := len(w.Stats().Ended); n != 0 {
		t.Errorf("ended: %v", w.Stats().Ended)
	}
}

// R9, R14: a freeze gives a dial one more chance, and not one more for each failure.
func TestADialThatFailsAfterItBeganAgainIsAReset(t *testing.T) {
	t.Parallel()
	var skew clocktest.Skew
	var dials atomic.Int32
	w := start(t, proxy.Config{Clock: skew.Now, Watch: &clock.Watch{Clock: skew.Now}}, func(ctx context.Context) (net.Conn, error) {
		if n := dials.Add(1); n == 1 {
			skew.Jump(3 * time.Second) // this failure is the first to notice
		} else if n > 2 {
			<-ctx.Done() // one of as many as there is time for
		}
		return nil, errors.New("refused")
	})
	w.wantRefused(t)
	if n := dials.Load(); n != 2 {
		t.Errorf("%d dials, want 2", n)
	}
}

// R16: a dial that is called off in a shutdown does not begin again for a freeze.
func TestAShutdownBeginsNoDialAgain(t *testing.T) {
	t.Parallel()
	var skew clocktest.Skew
	var dials atomic.Int32
	stuck := make(chan struct{}, 10)
	w := start(t, proxy.Config{Clock: skew.Now, Watch: &clock.Watch{Clock: skew.Now}}, func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		stuck <- struct{}{}
		<-ctx.Done()
		skew.Jump(3 * time.Second)
		return nil, ctx.Err()
	})
	w.connect(t)
	<-stuck
	expired, cancel := context.WithCancel(t.Context())
	cancel()
	_ = w.Shutdown(expired)
	if n := dials.Load(); n != 1 {
		t.Errorf("%d dials, want 1", n)
	}
}

// R16: a dial that succeeds although its connection was to end meanwhile does not keep it alive.
func TestADialThatSucceedsTooLateEndsTheConnection(t *testing.T) {
	t.Parallel()
	dial := upstream(t, pairs["copied"], echo)
	stuck := make(chan struct{})
	w := start(t, proxy.Config{}, func(ctx context.Context) (net.Conn, error) {
		close(stuck)
		<-ctx.Done()
		return dial(context.WithoutCancel(ctx))
	})
	c := w.connect(t)
	<-stuck
	expired, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan error, 1)
	go func() { ended <- w.Shutdown(expired) }()
	wantReset(t, c) // the cleanup would wait for a connection that goes on
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the shutdown waits for a connection that it has ended")
	}
}

// R17: memory that a burst took is given back too when its connections are gone.
func TestBuffersAreGivenBackAfterTheLastConnection(t *testing.T) {
	t.Parallel()
	pool := new(bufpool.Pool)
	w := start(t, proxy.Config{Buffers: pool}, upstream(t, pairs["copied"], echo))
	c := w.connect(t)
	for range 20 {
		roundTrip(t, c, strings.Repeat("a stream ", 1<<16))
		if pool.Grown() {
			break
		}
	}
	if !pool.Grown() {
		t.Fatal("a stream did not grow the buffers")
	}
	_ = c.Close()
	waittest.Until(t, "the connection's end", func() bool { return w.Stats().Open == 0 })
	looks := w.Still()
	waittest.Until(t, "somebody to go on looking", func() bool { return w.Still() >= looks+2 })
	for range 30 {
		w.Sweep()
	}
	waittest.Until(t, "the buffers to be given back", func() bool { return !pool.Grown() })
}

// R19: what was sent may go unacknowledged for 10 s in which the process runs. Freezes, however many, are no part of them.
func TestFreezesAreNoPartOfTheTimeForAnAcknowledgement(t *testing.T) {
	t.Parallel()
	var skew clocktest.Skew
	release, deaf := make(chan struct{}), make(chan struct{})
	w := start(t, proxy.Config{Clock: skew.Now, Watch: &clock.Watch{Clock: skew.Now}}, upstream(t, pairs["copied"], func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		ignoreSegments(t, c)
		close(deaf)
		<-release
	}))
	defer close(release)
	c := w.connect(t)
	_, _ = io.WriteString(c, "?")
	<-deaf
	before := w.Progress()
	_, _ = io.WriteString(c, "is anybody there?")
	waittest.Until(t, "the bytes to be sent", func() bool { return w.Progress() > before })
	w.Sweep()
	for range 100 {
		skew.Jump(2 * time.Second)
		w.Thaw()
	}
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // in which the sweep looks twice
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the function sees %v; ended: %v", err, w.Stats().Ended)
	}
}

// R14, R19: when a connection of the function is the first sign of life after a freeze, everyone has been told of that before
// anything is dialled, or a spare taken, for it.
func TestAThawIsNoticedBeforeAConnectionIsDialled(t *testing.T) {
	t.Parallel()
	var skew clocktest.Skew
	var told atomic.Bool
	watch := &clock.Watch{Clock: skew.Now}
	watch.Check()
	watch.OnThaw(func(time.Duration) { told.Store(true) })
	first := make(chan bool, 10)
	w := start(t, proxy.Config{Clock: skew.Now, Watch: watch}, func(context.Context) (net.Conn, error) {
		first <- told.Load()
		return nil, errors.New("refused")
	})
	skew.Jump(time.Minute)
	w.wantRefused(t)
	if !<-first {
		t.Error("a connection was dialled before the freeze was noticed")
	}
}
