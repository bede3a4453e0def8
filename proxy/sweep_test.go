// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/proxy"
)

// R14: an age is judged by whichever clock went on.
func TestIdleAndOldConnectionsEnd(t *testing.T) {
	t.Parallel()
	jumps := map[string]func(*clocktest.Skew, time.Duration){
		"wall": (*clocktest.Skew).JumpWall, "mono": (*clocktest.Skew).JumpMono, "both": (*clocktest.Skew).Jump,
	}
	for name, jump := range jumps {
		for cause, cfg := range map[proxy.Cause]proxy.Config{
			proxy.CauseIdle: {IdleTimeout: time.Minute},
			proxy.CauseAge:  {MaxAge: time.Minute},
		} {
			t.Run(string(cause)+" by "+name, func(t *testing.T) {
				t.Parallel()
				var skew clocktest.Skew
				cfg := cfg
				cfg.Clock = skew.Now
				w := start(t, cfg, upstream(t, pairs["copied"], echo))
				c := w.connect(t)
				roundTrip(t, c, "hello")
				jump(&skew, 40*time.Second)
				roundTrip(t, c, "again")
				w.Sweep()
				jump(&skew, 40*time.Second) // 80 s old, silent for 40 s
				if cause == proxy.CauseIdle {
					roundTrip(t, c, "not idle")
					w.Sweep()
					jump(&skew, 61*time.Second)
				}
				wantReset(t, c)
				if n := w.Stats().Ended[cause]; n != 1 {
					t.Errorf("ended: %v, want one of %s", w.Stats().Ended, cause)
				}
			})
		}
	}
}

// Memory that a burst took is the function's again when nothing has moved for a while, also on connections that stay open.
func TestBuffersAreGivenBackAfterABurst(t *testing.T) {
	t.Parallel()
	pool := new(bufpool.Pool)
	w := start(t, proxy.Config{Buffers: pool}, upstream(t, pairs["copied"], echo))
	c := w.connect(t)
	roundTrip(t, c, "small")
	if pool.Grown() {
		t.Error("a small message grew the buffers")
	}
	for range 20 {
		roundTrip(t, c, strings.Repeat("a stream ", 1<<16))
		if pool.Grown() {
			break
		}
	}
	if !pool.Grown() {
		t.Fatal("a stream did not grow the buffers")
	}
	for range 30 {
		w.Sweep()
	}
	if pool.Grown() {
		waittest.Until(t, "the buffers to be given back", func() bool { return !pool.Grown() })
	}
	roundTrip(t, c, "still open")
}

// R19: after a freeze that the path has likely not survived, the function is told at once, before it uses the
// connection, whichever clock noticed.
func TestAConnectionThatWasSilentOverALongFreezeIsReset(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]func(*clocktest.Skew, time.Duration){
		"wall": (*clocktest.Skew).JumpWall, "mono": (*clocktest.Skew).JumpMono, "both": (*clocktest.Skew).Jump,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var skew clocktest.Skew
			w := start(t, proxy.Config{Clock: skew.Now}, upstream(t, pairs["copied"], echo))
			c := w.connect(t)
			roundTrip(t, c, "hello")
			w.Sweep()
			jump(&skew, 290*time.Second)
			roundTrip(t, c, "a freeze of less than 300 s is survived")
			w.Sweep()
			jump(&skew, 301*time.Second)
			began := time.Now()
			wantReset(t, c)
			if took := time.Since(began); took > atOnce {
				t.Errorf("the function learnt of it after %v, want at once", took)
			}
			if n := w.Stats().Ended[proxy.CauseFrozen]; n != 1 {
				t.Errorf("ended: %v, want one frozen", w.Stats().Ended)
			}
			roundTrip(t, w.connect(t), "a new one works")
		})
	}
}

// R19: a request that the function writes right after the thaw does not vanish in the dead path.
func TestAThawIsNoticedBeforeTheNextRequestIsSent(t *testing.T) {
	t.Parallel()
	var skew clocktest.Skew
	var arrived atomic.Int64
	w := start(t, proxy.Config{Clock: skew.Now, Watch: &clock.Watch{Clock: skew.Now}}, upstream(t, pairs["copied"], func(c *net.TCPConn) {
		b := make([]byte, 100)
		for {
			n, err := c.Read(b)
			arrived.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	for range 20 { // some of these are noticed by the tick, and some by the request
		c := w.connect(t)
		_, _ = io.WriteString(c, "before")
		waittest.Until(t, "the bytes before the freeze", func() bool { return arrived.Load() == 6 })
		arrived.Store(0)
		skew.JumpWall(time.Hour)
		_, _ = io.WriteString(c, "after")
		wantReset(t, c)
		if n := arrived.Load(); n != 0 {
			t.Fatalf("%d bytes were sent into a path that has forgotten the connection", n)
		}
	}
}

// R19: what is sent and never acknowledged ends the connection. A peer that acknowledges and does not read does not.
func TestAPathThatAcknowledgesNothingEndsTheConnection(t *testing.T) {
	t.Parallel()
	var first atomic.Bool
	deaf, release := make(chan struct{}), make(chan struct{})
	w := start(t, proxy.Config{}, upstream(t, pairs["copied"], func(c *net.TCPConn) {
		if first.Swap(true) {
			ignoreSegments(t, c)
			close(deaf)
		}
		<-release
	}))
	w.SetAckTimeout(3 * time.Second)
	defer close(release)

	busy := w.connect(t) // writes until every buffer is full, to a peer that does not read
	go func() {
		for b := make([]byte, 1<<16); ; {
			if _, err := busy.Write(b); err != nil {
				return
			}
		}
	}()
	waittest.Until(t, "the stream to fill every buffer on the way", func() bool { return w.Progress() > 0 && upstreamIsBlockedOrDone(w) })

	c := w.connect(t)
	<-deaf
	_, _ = io.WriteString(c, "is anybody there?")
	wantReset(t, c)
	if n := w.Stats().Ended[proxy.CauseUnacknowledged]; n != 1 {
		t.Errorf("ended: %v, want the connection to the deaf peer", w.Stats().Ended)
	}
	waittest.Until(t, "only the other one to be open", func() bool { return w.Stats().Open == 1 })
}

// ignoreSegments makes the kernel drop everything that arrives on a socket, as a path that is gone does.
func ignoreSegments(t *testing.T, c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	dropAll := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	_ = raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &dropAll[0]}); err != nil {
			t.Error(err)
		}
	})
}

// waitUntilRead returns when the peer's kernel has all that was written.
func waitUntilRead(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	waittest.Within(patience, func() bool {
		var n int
		err := raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		return err != nil || n == 0
	})
}

// A clock that is set back ends nothing.
func TestAClockThatIsSetBackEndsNothing(t *testing.T) {
	t.Parallel()
	var skew clocktest.Skew
	w := start(t, proxy.Config{Clock: skew.Now, IdleTimeout: time.Minute, MaxAge: time.Hour}, upstream(t, pairs["copied"], echo))
	c := w.connect(t)
	roundTrip(t, c, "hello")
	skew.JumpWall(-24 * time.Hour)
	w.Sweep()
	roundTrip(t, c, "still here")
	if n := len(w.Stats().Ended); n != 0 {
		t.Errorf("ended: %v", w.Stats().Ended)
	}
}
