// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/proxy"
)

// forEachPair runs a benchmark with an upstream leg of each kind: copied as TLS is, without its cryptography, and spliced.
func forEachPair(b *testing.B, bench func(b *testing.B, leg func(*net.TCPConn) net.Conn)) {
	for _, name := range []string{"copied", "spliced"} {
		b.Run("leg="+name, func(b *testing.B) { bench(b, pairs[name]) })
	}
}

// BenchmarkNewConnection asks what a connection costs from connect to its first answer and its end. Client and upstream
// are in the same process, and in the figures.
func BenchmarkNewConnection(b *testing.B) {
	forEachPair(b, func(b *testing.B, leg func(*net.TCPConn) net.Conn) {
		w := start(b, proxy.Config{MaxConnections: -1}, upstream(b, leg, echo))
		b.ReportAllocs()
		for b.Loop() {
			c, err := net.Dial("tcp", w.addr)
			if err != nil {
				b.Fatal(err)
			}
			roundTrip(b, c, "x")
			_ = c.Close()
		}
	})
}

// BenchmarkRelayRoundTrip asks what a message and its echo cost when some connections have one each under way: an operation
// is one message on every connection. The allocations are those of the relay's steady state, which the budget wants at 0.
func BenchmarkRelayRoundTrip(b *testing.B) {
	forEachPair(b, func(b *testing.B, leg func(*net.TCPConn) net.Conn) {
		for _, size := range []int{64, 1 << 10, 16 << 10} {
			for _, conns := range []int{1, 8, 64} {
				b.Run(fmt.Sprintf("size=%d/conns=%d", size, conns), func(b *testing.B) {
					w := start(b, proxy.Config{}, upstream(b, leg, echo))
					begin, done := make(chan struct{}), make(chan error, conns)
					for range conns {
						c := w.connect(b)
						roundTrip(b, c, "hello") // what a connection allocates, it has allocated now
						go exchange(c, make([]byte, size), begin, done)
					}
					b.Cleanup(func() { close(begin) })
					b.SetBytes(int64(size * conns))
					b.ReportAllocs()
					for b.Loop() {
						for range conns {
							begin <- struct{}{}
						}
						for range conns {
							if err := <-done; err != nil {
								b.Fatal(err)
							}
						}
					}
				})
			}
		}
	})
}

// exchange sends a message whenever it may begin and waits for the echo. It ends when begin is closed.
func exchange(c *net.TCPConn, buf []byte, begin <-chan struct{}, done chan<- error) {
	_ = c.SetDeadline(time.Time{})
	for range begin {
		_, err := c.Write(buf)
		if err == nil {
			_, err = io.ReadFull(c, buf)
		}
		done <- err
	}
}

// BenchmarkRelayStream asks what a stream costs in writes, or reads, of one size by the function. What is still under way at
// the end is not waited for.
func BenchmarkRelayStream(b *testing.B) {
	forEachPair(b, func(b *testing.B, leg func(*net.TCPConn) net.Conn) {
		for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("dir=up/size=%d", size), func(b *testing.B) {
				w := start(b, proxy.Config{}, upstream(b, leg, func(c *net.TCPConn) { _, _ = io.Copy(hole{}, c) }))
				stream(b, w, size, (*net.TCPConn).Write)
			})
			b.Run(fmt.Sprintf("dir=down/size=%d", size), func(b *testing.B) {
				w := start(b, proxy.Config{}, upstream(b, leg, func(c *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{c}, endless{}) }))
				stream(b, w, size, func(c *net.TCPConn, p []byte) (int, error) { return io.ReadFull(c, p) })
			})
		}
	})
}

func stream(b *testing.B, w *world, size int, move func(*net.TCPConn, []byte) (int, error)) {
	c := w.connect(b)
	_ = c.SetDeadline(time.Time{})
	buf := make([]byte, size)
	if _, err := move(c, buf); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := move(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// hole takes everything. io.Discard does too, but reads through a small buffer of its own.
type hole struct{}

func (hole) Write(p []byte) (int, error) { return len(p), nil }

// endless has as many bytes as one wants.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
