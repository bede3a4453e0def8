// SPDX-License-Identifier: MPL-2.0

//go:build !race

package proxy_test

import (
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/proxy"
)

// The budget: a chunk that is copied, on real sockets, costs no allocation, in any size of buffer. Upstream and function are
// in the same process and allocate nothing either. It cannot run in parallel with other tests, whose allocations would be
// counted; and not with the race detector, which makes sync.Pool drop buffers at random.
func TestCopyingAllocatesNothingPerChunk(t *testing.T) {
	w := start(t, proxy.Config{}, upstream(t, pairs["copied"], func(c *net.TCPConn) {
		buf := make([]byte, 64<<10)
		_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, buf)
	}))
	c := w.connect(t)
	_ = c.SetDeadline(time.Time{})
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10} {
		buf := make([]byte, size)
		const chunks = 50 // so that one allocation in fifty chunks is seen: an average is rounded down
		n := math.Inf(1)
		for range 5 { // the sweep allocates a little, now and then
			n = min(n, testing.AllocsPerRun(20, func() {
				for range chunks {
					if _, err := c.Write(buf); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(c, buf); err != nil {
						t.Fatal(err)
					}
				}
			}))
			if n == 0 {
				break
			}
		}
		t.Logf("%v allocations for %d round trips of %d bytes, limit 0", n, chunks, size)
		if n != 0 {
			t.Error("copying allocates")
		}
	}
}
