// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
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
