// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/proxy"
)

// counted tells how an upstream leg was ended.
type counted struct {
	copied
	ends *ends
}

type ends struct{ clean, reset atomic.Int64 }

func (c counted) CloseWrite() error {
	c.ends.clean.Add(1)
	return c.copied.CloseWrite()
}

func (c counted) Reset() error {
	c.ends.reset.Add(1)
	return c.copied.Reset()
}

// R5: the kernel tells a reset once. When the direction to the function learns of it, the other one reads an end that
// looks clean, and must not pass it on: the upstream would take half of an upload for all of it.
func TestAResetOfTheFunctionIsNoCleanEndWhileBytesFlowBothWays(t *testing.T) {
	t.Parallel()
	const times = 50
	var got ends
	w := start(t, proxy.Config{}, upstream(t, func(c *net.TCPConn) net.Conn { return counted{copied{c}, &got} }, func(c *net.TCPConn) {
		var writing sync.WaitGroup
		defer writing.Wait()
		writing.Go(func() {
			for b := make([]byte, 64<<10); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		})
		_, _ = io.Copy(io.Discard, c)
		_ = c.SetWriteDeadline(time.Unix(1, 0))
	}))
	for i := range times {
		c := w.connect(t)
		_, _ = io.WriteString(c, "half an upload")
		if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i%5) * time.Millisecond) // the stream fills what is on the way, more or less
		_ = c.SetLinger(0)
		_ = c.Close()
		waittest.Until(t, "the connection's end", func() bool { return w.Stats().Open == 0 })
	}
	if clean, reset := got.clean.Load(), got.reset.Load(); clean != 0 || reset != times {
		t.Errorf("of %d resets the upstream saw %d clean ends and %d resets", times, clean, reset)
	}
}

// R19: a closed window is no excuse for a path that is gone: nobody answers the probes.
func TestAPathThatDiesWhileThePeersWindowIsClosedEndsTheConnection(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		peer, release := make(chan *net.TCPConn, 1), make(chan struct{})
		w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
			peer <- c
			<-release
		}))
		defer close(release)
		w.SetAckTimeout(2 * time.Second)
		c := w.connect(t)
		go writeOn(c)
		waittest.Until(t, "the stream to fill every buffer on the way", func() bool { return w.Progress() > 0 && upstreamIsBlockedOrDone(w) })
		time.Sleep(700 * time.Millisecond) // so that the second probe was answered, and nothing else is in flight
		ignoreSegments(t, <-peer)
		waittest.Until(t, "the end of the path to be noticed", func() bool { return w.Stats().Ended[proxy.CauseUnacknowledged] == 1 })
	})
}

// R19: a path that is dead towards the upstream only. What the upstream sends again and again, because it hears nothing, is
// no acknowledgement: counted as one, it held the end up from 10 s to 25 s.
func TestAPathThatIsDeadInOneDirectionEndsTheConnection(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w := start(t, proxy.Config{}, upstream(t, pairs["copied"], func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		ignoreSegments(t, c)
		_, _ = io.WriteString(c, "never acknowledged")
		<-release
	}))
	defer close(release)
	w.SetAckTimeout(2 * time.Second)
	c := w.connect(t)
	_, _ = io.WriteString(c, "?")
	_, _ = io.ReadFull(c, make([]byte, len("never acknowledged")))
	begin := time.Now()
	_, _ = io.WriteString(c, "is anybody there?")
	wantReset(t, c)
	if took := time.Since(begin); took > 5500*time.Millisecond {
		t.Errorf("it took %v with a limit of 2 s", took)
	}
	if n := w.Stats().Ended[proxy.CauseUnacknowledged]; n != 1 {
		t.Errorf("ended: %v", w.Stats().Ended)
	}
}

// R19: a window that is closed while the path is well ends nothing, although the probes and their answers grow rare.
func TestAPeerThatDoesNotReadButAnswersProbesIsLeftAlone(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w := start(t, proxy.Config{}, upstream(t, pairs["copied"], func(*net.TCPConn) { <-release }))
	defer close(release)
	w.SetAckTimeout(time.Second)
	c := w.connect(t)
	go writeOn(c)
	time.Sleep(6500 * time.Millisecond) // of which 3.2 s were between two probes
	if st := w.Stats(); st.Open != 1 || len(st.Ended) != 0 {
		t.Errorf("%d open, ended: %v", st.Open, st.Ended)
	}
}

// writeOn writes until that fails, and returns why.
func writeOn(c net.Conn) error {
	_ = c.SetWriteDeadline(time.Time{})
	for b := make([]byte, 64<<10); ; {
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

// R6: a half-closed connection is not silent because its reader is slow: the other side would go on if it could.
func TestASlowReaderOfAHalfClosedConnectionGetsEverything(t *testing.T) {
	t.Parallel()
	const total = 32 << 20 // more than the kernel holds on the way
	for reader, test := range map[string]func(t *testing.T, leg func(*net.TCPConn) net.Conn, reads func(*world, *clocktest.Skew, net.Conn)){
		"function": func(t *testing.T, leg func(*net.TCPConn) net.Conn, reads func(*world, *clocktest.Skew, net.Conn)) {
			var skew clocktest.Skew
			w := start(t, proxy.Config{Clock: skew.Now}, upstream(t, leg, func(c *net.TCPConn) {
				_, _ = io.Copy(io.Discard, c)
				_, _ = c.Write(make([]byte, total))
			}))
			c := w.connect(t)
			_ = c.CloseWrite()
			reads(w, &skew, c)
		},
		"upstream": func(t *testing.T, leg func(*net.TCPConn) net.Conn, reads func(*world, *clocktest.Skew, net.Conn)) {
			var skew clocktest.Skew
			peer, done := make(chan *net.TCPConn, 1), make(chan struct{})
			w := start(t, proxy.Config{Clock: skew.Now}, upstream(t, leg, func(c *net.TCPConn) {
				_, _ = io.WriteString(c, "go on")
				_ = c.CloseWrite()
				peer <- c
				<-done
			}))
			defer close(done)
			c := w.connect(t)
			go func() {
				_, _ = io.Copy(io.Discard, c)
				_, _ = c.Write(make([]byte, total))
				_ = c.CloseWrite()
			}()
			reads(w, &skew, <-peer)
		},
	} {
		t.Run(reader, func(t *testing.T) {
			forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
				test(t, leg, func(w *world, skew *clocktest.Skew, c net.Conn) {
					_ = c.SetDeadline(time.Now().Add(patience))
					const pauses, part = 2, 1 << 20
					for range pauses {
						if _, err := io.ReadFull(c, make([]byte, part)); err != nil {
							t.Fatal(err)
						}
						waittest.Until(t, "the stream to fill every buffer on the way", func() bool { return upstreamIsBlockedOrDone(w) && w.Blocked() })
						w.Sweep()
						skew.Jump(61 * time.Second)
						w.Sweep()
					}
					n, err := io.Copy(io.Discard, c)
					if n += pauses * part; n != total || err != nil {
						t.Errorf("the slow reader got %d of %d bytes, %v; ended: %v", n, total, err, w.Stats().Ended)
					}
				})
			})
		})
	}
}

// truncating is a leg whose peer ends the stream without saying that it is complete, as a TLS peer can.
type truncating struct{ copied }

func (c truncating) Read(p []byte) (int, error) {
	n, err := c.copied.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// R5, R9: the function is told of the upstream's bad end at once, although what it uploads is stuck and so nothing else
// moves: not when the half-close timeout has passed, which is a minute.
func TestACutIsToldAtOnceWhileAnUploadIsBlocked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		leg    func(*net.TCPConn) net.Conn
		answer string
		want   proxy.Cause
	}{
		"cut":                       {func(c *net.TCPConn) net.Conn { return truncating{copied{c}} }, "hello", proxy.CauseTruncated},
		"cut before the first byte": {func(c *net.TCPConn) net.Conn { return truncating{copied{c}} }, "", proxy.CauseTruncated},
		"refused":                   {pairs["copied"], "", proxy.CauseRefused},
		"refused, spliced":          {pairs["spliced"], "", proxy.CauseRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cut, release := make(chan struct{}), make(chan struct{})
			w := start(t, proxy.Config{}, upstream(t, tt.leg, func(c *net.TCPConn) {
				_, _ = io.WriteString(c, tt.answer)
				<-cut
				_ = c.CloseWrite()
				<-release
			}))
			defer close(release)
			c := w.connect(t)
			written := make(chan error, 1)
			go func() { written <- writeOn(c) }()
			got := make([]byte, len(tt.answer))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != tt.answer {
				t.Errorf("the function got %q, %v", got, err)
			}
			waittest.Until(t, "the stream to fill every buffer on the way", func() bool { return w.Progress() > 0 && upstreamIsBlockedOrDone(w) })
			began := time.Now()
			close(cut)
			more, err := io.ReadAll(c)
			_ = c.Close() // ends the write, should nothing have
			// The kernel tells a reset once: to the write that is blocked, or to the read.
			if err = errors.Join(err, <-written); len(more) != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the function got %d more bytes and %v, want a reset", len(more), err)
			}
			if took := time.Since(began); took > atOnce {
				t.Errorf("the function was told after %v, want at once", took)
			}
			waittest.Until(t, "the connection's end", func() bool { return w.Stats().Open == 0 })
			if n := w.Stats().Ended[tt.want]; n != 1 {
				t.Errorf("ended: %v, want one %s", w.Stats().Ended, tt.want)
			}
		})
	}
}

// R16: the last call is for all who wait, not for those who can be accepted within some time.
func TestADrainTakesAllThatWaitsHoweverSlowAcceptingIs(t *testing.T) {
	t.Parallel()
	drainWaiting(t, 200, proxy.Config{Clock: func() clock.Instant {
		time.Sleep(time.Millisecond) // each accept takes so long
		return clock.Clock(nil).Now()
	}})
}

// R16: a connection that arrives in the moment of the last call is one that waits, although the accept loop was told of the
// deadline first. Not parallel: with one processor the loop cannot run in between.
func TestADrainTakesAConnectionThatArrivesAtTheLastCall(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	received := make(chan string, 1)
	dial := upstream(t, pairs["copied"], func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		received <- string(b)
	})
	for range 20 {
		w := start(t, proxy.Config{}, dial)
		startAccepting(t, w, received)
		send(t, w.addr, "last")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := w.Shutdown(ctx)
		cancel()
		if n := w.Stats().Accepted; n != 2 || err != nil {
			t.Fatalf("%d of 2 connections were accepted; Shutdown: %v", n, err)
		}
		if got := <-received; got != "last" {
			t.Errorf("the upstream got %q", got)
		}
	}
}

// startAccepting shows that the accept loop runs, and lets it wait for the next connection.
func startAccepting(t *testing.T, w *world, received <-chan string) {
	t.Helper()
	send(t, w.addr, "first")
	if got := <-received; got != "first" {
		t.Errorf("the upstream got %q", got)
	}
	waittest.Until(t, "the connection's end", func() bool { return w.Stats().Open == 0 })
}

// send connects, sends and closes without a pause in which another goroutine would run.
func send(t *testing.T, addr, text string) {
	t.Helper()
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// R17: a function that goes on connecting past the limit costs nothing that stays until the dial timeout. Not parallel:
// the heap is everybody's.
func TestARefusedConnectionLeavesNothingBehind(t *testing.T) {
	w := start(t, proxy.Config{DialTimeout: time.Hour, MaxConnections: 1}, func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	w.connect(t)
	waittest.Until(t, "the one that is allowed", func() bool { return w.Stats().Open == 1 })
	for range 100 {
		w.wantRefused(t)
	}
	const times = 3000
	before := heap()
	for range times {
		w.wantRefused(t)
	}
	if each := (heap() - before) / times; each > 200 {
		t.Errorf("each refused connection leaves %d bytes behind", each)
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one moved out of pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// R14: a dial that was under way in a freeze waits for what the freeze took away, and its time passed meanwhile. The function's
// call must not fail for it.
func TestADialThatWasFrozenBeginsAgain(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]func(*clocktest.Skew, time.Duration){
		"wall": (*clocktest.Skew).JumpWall, "mono": (*clocktest.Skew).JumpMono, "both": (*clocktest.Skew).Jump,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var (
				skew  clocktest.Skew
				dials atomic.Int32
				dial  = upstream(t, pairs["copied"], echo)
				stuck = make(chan struct{})
			)
			w := start(t, proxy.Config{Clock: skew.Now, DialTimeout: patience}, func(ctx context.Context) (net.Conn, error) {
				if dials.Add(1) > 1 {
					return dial(ctx)
				}
				close(stuck)
				<-ctx.Done() // the gateway has forgotten the connection
				return nil, ctx.Err()
			})
			c := w.connect(t)
			<-stuck
			jump(&skew, 3*time.Second)
			w.Thaw()
			roundTrip(t, c, "after the thaw")
			if n := dials.Load(); n != 2 {
				t.Errorf("%d dials, want 2", n)
			}
		})
	}
}
