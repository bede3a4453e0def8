// SPDX-License-Identifier: MPL-2.0

package bufpool_test

import (
	"fmt"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
)

// BenchmarkLend asks what borrowing a buffer and giving it back costs, alone and when all cores do it. It does not touch the
// buffer, so that it cannot see what a cold one costs.
func BenchmarkLend(b *testing.B) {
	for _, size := range []int{bufpool.Min, bufpool.Record, bufpool.Medium, bufpool.Large} {
		b.Run(fmt.Sprintf("size=%d/cores=one", size), func(b *testing.B) {
			p := bufpool.New(16 << 20)
			b.ReportAllocs()
			for b.Loop() {
				p.Put(p.Get(size))
			}
		})
		b.Run(fmt.Sprintf("size=%d/cores=all", size), func(b *testing.B) {
			p := bufpool.New(16 << 20)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p.Put(p.Get(size))
				}
			})
		})
	}
}
