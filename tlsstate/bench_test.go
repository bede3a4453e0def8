// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// benchmarked runs a State whose one upstream does that with its connections.
func benchmarked(b *testing.B, cfg tlsstate.Config, handle func(*tls.Conn)) *world {
	b.Helper()
	ca := certtest.NewCA(b)
	server := serverConfig(ca.Leaf(b, ca.ID(b, certtest.Service(b, "web"))))
	cfg.Gateways = []string{listen(b, "127.0.0.1:0", func(raw net.Conn) {
		c := tls.Server(raw, server)
		defer c.Close()
		handle(c)
	})}
	w := start(b, storeOf(b, ca.Doc(b, certtest.Service(b, "fn"))), cfg)
	w.ready(b)
	return w
}

func (w *world) open(b *testing.B) *tlsstate.Conn {
	b.Helper()
	c, err := w.Dial(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Reset() })
	return c
}

// BenchmarkDial asks what a new connection costs up to its first answer, without a spare. The server's half of the handshake
// is in it, in time and in allocations: only the difference between the lines is ours alone.
func BenchmarkDial(b *testing.B) {
	for _, resumed := range []bool{true, false} {
		b.Run(fmt.Sprintf("resumed=%t", resumed), func(b *testing.B) {
			w := benchmarked(b, tlsstate.Config{NoResumption: !resumed}, func(c *tls.Conn) { _, _ = io.Copy(c, c) })
			one := func() *tlsstate.Conn {
				c, err := w.Dial(b.Context(), 0)
				if err != nil {
					b.Fatal(err)
				}
				roundTrip(b, c, "x")
				return c
			}
			_ = one().Close() // the first one has no session to resume
			b.ReportAllocs()
			for b.Loop() {
				c := one()
				if c.Resumed() != resumed {
					b.Fatalf("resumed is %t", c.Resumed())
				}
				_ = c.Close()
			}
		})
	}
}

// BenchmarkConnRoundTrip asks what a small exchange costs on an open connection. The server's share is in it.
func BenchmarkConnRoundTrip(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			w := benchmarked(b, tlsstate.Config{}, func(c *tls.Conn) {
				buf := make([]byte, 32<<10)
				_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, buf)
			})
			c := w.open(b)
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnWrite asks what a stream of writes of one size costs. It is as fast as the server takes it, on another core if
// there is one; what is still under way at the end is not waited for.
func BenchmarkConnWrite(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			w := benchmarked(b, tlsstate.Config{}, func(c *tls.Conn) { _, _ = io.Copy(io.Discard, c) })
			c := w.open(b)
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnRead asks what a stream costs that is read with a buffer of one size. The server sends full records without
// pause, so that there is always something to read ahead: a slow network is kinder to small buffers.
func BenchmarkConnRead(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 10, 64 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			w := benchmarked(b, tlsstate.Config{}, func(c *tls.Conn) {
				buf := make([]byte, 64<<10)
				for {
					if _, err := c.Write(buf); err != nil {
						return
					}
				}
			})
			c := w.open(b)
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				c.Wait()
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
