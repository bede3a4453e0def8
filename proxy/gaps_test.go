// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/proxy"
)

// R6: after one direction's end the other goes on for as long as it moves, however old the connection is.
func TestAHalfClosedConnectionOnWhichBytesMoveGoesOn(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		for name, tc := range map[string]struct {
			handle func(*net.TCPConn)             // the upstream
			begin  func(*testing.T, *net.TCPConn) // the function ends its direction, or hears of the other one's end
			step   func(*testing.T, *net.TCPConn) // bytes move
		}{
			"the function has ended": {
				func(c *net.TCPConn) {
					_, _ = io.Copy(io.Discard, c)
					for {
						if _, err := io.WriteString(c, "x"); err != nil {
							return
						}
						time.Sleep(5 * time.Millisecond) // a stream, and not as fast as it can be
					}
				},
				func(_ *testing.T, c *net.TCPConn) { _ = c.CloseWrite() },
				func(t *testing.T, c *net.TCPConn) {
					if _, err := io.ReadFull(c, make([]byte, 20)); err != nil {
						t.Fatalf("after a minute with bytes: %v", err)
					}
				},
			},
			"the upstream has ended": {
				func(c *net.TCPConn) {
					_, _ = io.WriteString(c, "x")
					_ = c.CloseWrite()
					_, _ = io.Copy(io.Discard, c)
				},
				func(t *testing.T, c *net.TCPConn) {
					if got, err := io.ReadAll(c); string(got) != "x" || err != nil {
						t.Fatalf("read %q, %v", got, err)
					}
				},
				func(t *testing.T, c *net.TCPConn) {
					// More than one: the kernel counts an end as a byte, until the proxy has seen it.
					if _, err := io.WriteString(c, "some bytes"); err != nil {
						t.Fatalf("after a minute with bytes: %v", err)
					}
				},
			},
		} {
			t.Run(name, func(t *testing.T) {
				var skew clocktest.Skew
				w := start(t, proxy.Config{Clock: skew.Now}, upstream(t, leg, tc.handle))
				c := w.connect(t)
				tc.begin(t, c)
				for range 4 {
					before := w.Progress()
					tc.step(t, c)
					waittest.Until(t, "bytes to move", func() bool { return w.Progress() > before })
					w.Sweep()
					skew.JumpWall(40 * time.Second)
				}
				if st := w.Stats(); st.Open != 1 || len(st.Ended) != 0 {
					t.Fatalf("%d connections are open and %v have ended, want one and none", st.Open, st.Ended)
				}
			})
		}
	})
}

// R6: the silence of the function counts as that of the upstream does.
func TestAHalfClosedConnectionOfASilentFunctionIsReset(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		var skew clocktest.Skew
		end := make(chan error, 1)
		w := start(t, proxy.Config{Clock: skew.Now}, upstream(t, leg, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "x")
			_ = c.CloseWrite()
			_, err := io.Copy(io.Discard, c)
			end <- err
		}))
		c := w.connect(t)
		if got, err := io.ReadAll(c); string(got) != "x" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		skew.JumpWall(50 * time.Second)
		w.Sweep()
		if n := w.Stats().Open; n != 1 {
			t.Fatalf("%d connections are open after 50 s of silence, want 1", n)
		}
		skew.JumpWall(11 * time.Second)
		select {
		case err := <-end:
			if err == nil {
				t.Error("the upstream saw a clean end, want a reset")
			}
		case <-time.After(patience):
			t.Fatal("the connection goes on")
		}
		waittest.Until(t, "the end to be counted", func() bool { return w.Stats().Ended[proxy.CauseHalfClosed] == 1 })
	})
}

// R9: one upstream's failures do not hide another's, nor one cause another, and what goes on failing is said again.
func TestFailuresAreLoggedPerUpstreamAndCause(t *testing.T) {
	t.Parallel()
	var skew clocktest.Skew
	refusing := func(context.Context) (net.Conn, error) { return nil, errors.New("no way there") }
	w := start(t, proxy.Config{Clock: skew.Now}, refusing)
	listen := func(name string, dial func(context.Context) (net.Conn, error)) *world {
		addr, err := w.Listen(t.Context(), "127.0.0.1:0", proxy.Route{Name: name, Dial: dial})
		if err != nil {
			t.Fatal(err)
		}
		return &world{Server: w.Server, addr: addr.String(), log: w.log}
	}
	other := listen("db", refusing)
	moody := listen("web", upstream(t, pairs["copied"], func(*net.TCPConn) {})) // the same upstream, another cause
	for range 3 {
		w.wantRefused(t)
		other.wantRefused(t)
		moody.wantRefused(t)
	}
	lines := func(text string) func() bool { return func() bool { return w.log.Count(text) == 1 } }
	for _, want := range []string{"upstream=web cause=dial", "upstream=db cause=dial", "upstream=web cause=refused"} {
		waittest.Until(t, "one line with "+want, lines(want))
	}
	skew.JumpMono(11 * time.Second)
	w.wantRefused(t)
	waittest.Until(t, "another line, with the number of those left out", func() bool {
		return w.log.Count("upstream=web cause=dial") == 2 && w.log.Count("not_logged=2") == 1
	})
}

// R19: silence alone ends nothing; only a freeze makes it suspicious.
func TestASilentConnectionOutlivesAnyTimeWithoutAFreeze(t *testing.T) {
	t.Parallel()
	var skew clocktest.Skew
	w := start(t, proxy.Config{Clock: skew.Now, Watch: new(clock.Watch)}, upstream(t, pairs["copied"], echo)) // the watch sees no jump
	c := w.connect(t)
	roundTrip(t, c, "hello")
	for range 3 {
		w.Sweep()
		skew.Jump(time.Hour)
	}
	w.Sweep()
	if st := w.Stats(); st.Open != 1 || len(st.Ended) != 0 {
		t.Fatalf("%d connections are open and %v have ended, want one and none", st.Open, st.Ended)
	}
	roundTrip(t, c, "still here")
}
