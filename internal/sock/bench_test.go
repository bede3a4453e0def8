// SPDX-License-Identifier: MPL-2.0

package sock_test

import (
	"io"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/sock"
)

// BenchmarkWrite asks what one write after the other costs, with waiting for the reader. Blind spot: what a message costs that comes
// after a pause, which is what the package is for. It takes two processes to see that: the row pingpong of consul-lambda bench.
func BenchmarkWrite(b *testing.B) {
	a, peer := pair(b)
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	for name, w := range map[string]io.Writer{"sock": sock.NewWriter(a), "net": a} {
		for size, n := range map[string]int{"1KiB": 1 << 10, "16KiB": 16 << 10, "256KiB": 256 << 10} {
			b.Run(name+"/"+size, func(b *testing.B) {
				p := make([]byte, n)
				b.SetBytes(int64(n))
				for b.Loop() {
					if _, err := w.Write(p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
