// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/proxy"
)

// R6: the function ends what it sends and still gets the whole answer, which the upstream starts only then.
func TestAnAnswerThatBeginsAfterTheFunctionsEndArrives(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
			h := sha256.New()
			n, _ := io.Copy(h, c)
			_, _ = c.Write(h.Sum(nil))
			_, _ = c.Write(make([]byte, n))
		}))
		c := w.connect(t)
		sent := randomBytes(1 << 20)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		want := sha256.Sum256(sent)
		if err != nil || len(got) != len(want)+len(sent) || !bytes.Equal(got[:len(want)], want[:]) {
			t.Errorf("the answer has %d bytes and ends with %v, want %d bytes and a clean end", len(got), err, len(want)+len(sent))
		}
	})
}

// R6: the upstream ends first, and the function goes on sending.
func TestTheFunctionGoesOnSendingAfterTheUpstreamsEnd(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		received := make(chan []byte, 1)
		w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "hello")
			_ = c.CloseWrite()
			b, _ := io.ReadAll(c)
			received <- b
		}))
		c := w.connect(t)
		if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		sent := randomBytes(300_000)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if got := <-received; !bytes.Equal(got, sent) {
			t.Errorf("the upstream got %d bytes, want the %d that were sent after its end", len(got), len(sent))
		}
		waittest.Until(t, "the connection's end", func() bool { return w.Stats().Open == 0 })
		if n := len(w.Stats().Ended); n != 0 {
			t.Errorf("%v was counted for a connection that ended by itself", w.Stats().Ended)
		}
	})
}

// R6: a connection of which one direction has ended is reset when the other is silent for too long.
func TestASilentHalfClosedConnectionIsReset(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		for name, jump := range map[string]func(*clocktest.Skew, time.Duration){
			"wall": (*clocktest.Skew).JumpWall, "mono": (*clocktest.Skew).JumpMono,
		} {
			t.Run(name, func(t *testing.T) {
				var skew clocktest.Skew
				release := make(chan struct{})
				w := start(t, proxy.Config{Clock: skew.Now}, upstream(t, leg, func(c *net.TCPConn) {
					_, _ = io.Copy(io.Discard, c)
					<-release
				}))
				defer close(release)
				c := w.connect(t)
				_ = c.CloseWrite()
				waittest.Until(t, "the connection", func() bool { return w.Stats().Open == 1 })
				jump(&skew, 50*time.Second)
				w.Sweep()
				if n := w.Stats().Open; n != 1 {
					t.Fatalf("%d connections are open after 50 s of silence, want 1", n)
				}
				jump(&skew, 11*time.Second)
				wantReset(t, c)
				if n := w.Stats().Ended[proxy.CauseHalfClosed]; n != 1 {
					t.Errorf("ended: %v, want one half-closed", w.Stats().Ended)
				}
			})
		}
	})
}

// sweep is longer than the time between two sweeps.
const sweep = 250 * time.Millisecond

// R7: exactly the bytes sent arrive, in both directions at once, whatever the sizes of the writes.
func TestBytesArriveOnceAndInOrder(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		w := start(t, proxy.Config{Buffers: bufpool.New(1 << 20)}, upstream(t, leg, echo))
		var conns sync.WaitGroup
		for size := 1; size <= 1<<18; size *= 8 {
			conns.Go(func() {
				c := w.connect(t)
				sent := randomBytes(min(size*200, 4<<20))
				go func() {
					for b := sent; len(b) > 0; {
						n, err := c.Write(b[:min(size, len(b))])
						if err != nil {
							return
						}
						b = b[n:]
					}
					_ = c.CloseWrite()
				}()
				if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("writes of %d bytes: %d of %d bytes came back, %v", size, len(got), len(sent), err)
				}
			})
		}
		conns.Wait()
	})
}

// R5: a stream that was reset upstream is reset downstream, after the bytes that did arrive, also for a function that
// reads slowly.
func TestAResetUpstreamReachesTheFunctionAfterTheBytesBeforeIt(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		const sent = 3 << 20
		cut := make(chan struct{})
		w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
			_, _ = c.Write(make([]byte, sent))
			<-cut
			_ = c.SetLinger(0)
		}))
		c := w.connect(t)
		got := make([]byte, 1<<20)
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		waittest.Until(t, "the stream to fill every buffer on the way", func() bool { return upstreamIsBlockedOrDone(w) })
		close(cut)
		time.Sleep(sweep) // the function is slow: the proxy knows of the cut by then
		n := 0
		for {
			m, err := c.Read(got[:4096])
			if n += m; err != nil {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the function saw %v after %d bytes, want a reset", err, n)
				}
				break
			}
		}
		if n == 0 {
			t.Error("nothing arrived of what was sent before the reset")
		}
		waittest.Until(t, "the connection's end", func() bool { return w.Stats().Open == 0 })
		if w.Stats().Ended[proxy.CauseTruncated] != 1 {
			t.Errorf("ended: %v, want one truncated", w.Stats().Ended)
		}
	})
}

func upstreamIsBlockedOrDone(w *world) bool {
	before := w.Progress()
	time.Sleep(20 * time.Millisecond) // that nothing moves shows in time only
	return w.Progress() == before
}

// R5: all of what had arrived when the stream was cut is delivered, when it fits into what the kernel and the proxy hold.
func TestNothingThatArrivedBeforeACutIsLost(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		sent := randomBytes(200_000)
		w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
			_, _ = c.Write(sent)
			// A reset overtakes what is still on its way: let it arrive first.
			waitUntilRead(c)
			_ = c.SetLinger(0)
		}))
		c := w.connect(t)
		time.Sleep(sweep) // the function does not read until long after the cut
		if got := wantReset(t, c); !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes arrived", len(got), len(sent))
		}
	})
}

// R5: the same when the function was sending, and its bytes are what met the reset first.
func TestNothingThatArrivedBeforeACutIsLostWhileTheFunctionSends(t *testing.T) {
	t.Parallel()
	answer := randomBytes(200_000)
	for range 5 {
		w := start(t, proxy.Config{}, upstream(t, pairs["spliced"], func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 100_000)) // and no more of what is sent
			_, _ = c.Write(answer)
			waitUntilRead(c)
			_ = c.SetLinger(0)
		}))
		wantAnswerWhileSending(t, w, answer)
	}
}

// An upstream that answers and ends before it has read everything is heard out. The leg of the test knows its own end, as
// a TLS connection does.
func TestAnEarlyAnswerArrivesWhileTheFunctionSends(t *testing.T) {
	t.Parallel()
	answer := randomBytes(200_000)
	for range 5 {
		w := start(t, proxy.Config{}, upstream(t, func(c *net.TCPConn) net.Conn { return &framed{copied{c}, len(answer)} }, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 100_000))
			_, _ = c.Write(answer)
			waitUntilRead(c)
		}))
		wantAnswerWhileSending(t, w, answer)
	}
}

func wantAnswerWhileSending(t *testing.T, w *world, answer []byte) {
	t.Helper()
	c := w.connect(t)
	go func() {
		for b := make([]byte, 1<<16); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	waittest.Until(t, "both directions' end", func() bool { return w.Failing() })
	got, _ := io.ReadAll(c) // whether a read or a write is told of the reset is the kernel's choice
	if !bytes.Equal(got, answer) {
		t.Fatalf("%d of %d bytes arrived", len(got), len(answer))
	}
}

// framed is a leg that knows how much there is to read.
type framed struct {
	copied
	left int
}

func (f *framed) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n, err := f.copied.Read(p)
	f.left -= n
	return n, err
}

// R5 towards the mesh: a function that resets its connection is not taken for one that has ended.
func TestAResetByTheFunctionReachesTheUpstream(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		end := make(chan error, 1)
		w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
			_, err := io.Copy(io.Discard, c)
			end <- err
		}))
		c := w.connect(t)
		_, _ = io.WriteString(c, "half a request")
		waittest.Until(t, "the bytes to pass", func() bool { return w.Progress() > 0 })
		_ = c.SetLinger(0)
		_ = c.Close()
		if err := <-end; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the upstream saw %v, want a reset", err)
		}
	})
}

// A function that stops reading and closes takes its upstream connection with it.
func TestAFunctionThatClosesEarlyEndsTheUpstream(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		end := make(chan error, 1)
		w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
			var err error
			for b := make([]byte, 1<<16); err == nil; {
				_, err = c.Write(b)
			}
			end <- err
		}))
		c := w.connect(t)
		if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		select {
		case <-end:
		case <-time.After(patience):
			t.Error("the upstream is still sending")
		}
		waittest.Until(t, "the connection's end", func() bool { return w.Stats().Open == 0 })
	})
}

// R9: an upstream that cannot be reached is a reset, never a clean end, and the log says why, not too often.
func TestAnUnreachableUpstreamIsAResetAndALogLine(t *testing.T) {
	t.Parallel()
	w := start(t, proxy.Config{}, func(context.Context) (net.Conn, error) { return nil, errors.New("no way there") })
	for range 20 {
		w.wantRefused(t)
	}
	if n := w.log.Count("no way there"); n != 1 {
		t.Errorf("%d log lines for 20 failures within a second, want 1:\n%s", n, w.log)
	}
	if w.log.Count("upstream=web") == 0 || w.log.Count("cause=dial") == 0 {
		t.Errorf("the log line does not name the upstream and the cause:\n%s", w.log)
	}
	if n := w.Stats().Ended[proxy.CauseDial]; n != 20 {
		t.Errorf("%d failures counted, want 20", n)
	}
}

// R9: a dial that does not return bounds nothing but itself.
func TestADialThatHangsIsAResetWithinTheDialTimeout(t *testing.T) {
	t.Parallel()
	w := start(t, proxy.Config{DialTimeout: 300 * time.Millisecond}, func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	began := time.Now()
	w.wantRefused(t)
	if took := time.Since(began); took < 250*time.Millisecond || took >= 2*time.Second { // the default
		t.Errorf("the reset came after %v, want about 300 ms", took)
	}
}

// R12: a defect ends one connection, not the function.
func TestAPanicEndsOneConnection(t *testing.T) {
	t.Parallel()
	t.Run("in a dial", func(t *testing.T) {
		w := start(t, proxy.Config{}, func(context.Context) (net.Conn, error) { panic("a defect") })
		w.wantRefused(t)
		w.wantRefused(t)
		waittest.Until(t, "both connections' ends", func() bool { return w.Stats().Open == 0 })
		if n := w.Stats().Ended[proxy.CausePanic]; n != 2 {
			t.Errorf("ended: %v, want two panics", w.Stats().Ended)
		}
	})
	t.Run("in a leg", func(t *testing.T) {
		dial := upstream(t, pairs["copied"], echo)
		var panics bool
		w := start(t, proxy.Config{}, func(ctx context.Context) (net.Conn, error) {
			c, err := dial(ctx)
			if panics = !panics; panics && err == nil {
				return panicking{c.(copied)}, nil
			}
			return c, err
		})
		c := w.connect(t)
		_, _ = io.WriteString(c, "x")
		wantReset(t, c)
		waittest.Until(t, "the connection's end", func() bool { return w.Stats().Open == 0 })
		if n := w.Stats().Ended[proxy.CausePanic]; n != 1 {
			t.Errorf("ended: %v, want one panic", w.Stats().Ended)
		}
		roundTrip(t, w.connect(t), "the next one works")
	})
}

type panicking struct{ copied }

func (panicking) Write([]byte) (int, error) { panic("a defect") }

// R17: the connection past the limit is reset, with its cause, and those within it go on.
func TestTheConnectionPastTheLimitIsReset(t *testing.T) {
	t.Parallel()
	w := start(t, proxy.Config{MaxConnections: 2}, upstream(t, pairs["copied"], echo))
	a, b := w.connect(t), w.connect(t)
	roundTrip(t, a, "a")
	roundTrip(t, b, "b")
	w.wantRefused(t)
	if w.log.Count("cause=limit") != 1 || w.Stats().Ended[proxy.CauseLimit] != 1 {
		t.Errorf("the limit is not told: %v\n%s", w.Stats().Ended, w.log)
	}
	roundTrip(t, a, "still there")
	_ = a.Close()
	waittest.Until(t, "room for another", func() bool { return w.Stats().Open == 1 })
	roundTrip(t, w.connect(t), "c")
}

// R17: a connection on which nothing flows holds no buffer.
func TestIdleConnectionsHoldNoBuffer(t *testing.T) {
	t.Parallel()
	bufs := new(bufpool.Pool)
	w := start(t, proxy.Config{Buffers: bufs}, upstream(t, func(c *net.TCPConn) net.Conn { return waiting{copied{c}} }, echo))
	for range 10 {
		roundTrip(t, w.connect(t), "hello")
	}
	waittest.Until(t, "all buffers to be given back", func() bool { return bufs.Lent() == 0 })
}

// waiting is a leg that can wait without a buffer.
type waiting struct{ copied }

func (w waiting) Wait() {
	raw, _ := w.SyscallConn()
	_ = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		return err != syscall.EAGAIN
	})
}
