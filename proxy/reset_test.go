// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/proxy"
)

// R5: the kernel tells a reset once. If it told the proxy's write, the read that follows sees a clean end, which must not
// reach the function as one. A leg that is more than a socket knows its own end.
func TestAResetThatAWriteWasToldOfReachesTheFunctionAsAReset(t *testing.T) {
	t.Parallel()
	for range 10 {
		full := make(chan struct{})
		w := start(t, proxy.Config{}, upstream(t, pairs["spliced"], func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "x")
			<-full
			_ = c.SetLinger(0)
		}))
		c := w.connect(t)
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		fill(t, c) // the proxy waits in a write, and the function in a read only: its own kernel tells a reset once, too
		close(full)
		wantReset(t, c)
	}
}

// R5 towards the mesh: the same the other way round. Half a request must not look like a whole one.
func TestAResetByAFunctionThatIsBeingAnsweredReachesTheUpstream(t *testing.T) {
	forBothPairs(t, func(t *testing.T, leg func(*net.TCPConn) net.Conn) {
		for range 10 {
			full, end := make(chan struct{}), make(chan error, 1)
			w := start(t, proxy.Config{}, upstream(t, leg, func(c *net.TCPConn) {
				fill(t, c) // the function reads nothing
				close(full)
				_, err := io.Copy(io.Discard, c)
				end <- err
			}))
			c := w.connect(t)
			_, _ = io.WriteString(c, "half a request")
			<-full
			_ = c.SetLinger(0)
			_ = c.Close()
			select {
			case err := <-end:
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the upstream saw %v, want a reset", err)
				}
			case <-time.After(patience):
				t.Fatal("the upstream heard nothing of the reset")
			}
		}
	})
}

// fill writes until nothing on the way takes more.
func fill(t *testing.T, c *net.TCPConn) {
	for b := make([]byte, 1<<16); ; {
		_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Write(b); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			return
		}
	}
}
