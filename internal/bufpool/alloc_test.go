// SPDX-License-Identifier: MPL-2.0

//go:build !race

// The race detector makes sync.Pool drop buffers at random.

package bufpool_test

import (
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
)

func TestLendingAllocatesNothingInSteadyState(t *testing.T) {
	var p bufpool.Pool
	p.Put(p.Get(bufpool.Medium))
	if n := testing.AllocsPerRun(1000, func() { p.Put(p.Get(bufpool.Medium)) }); n != 0 {
		t.Errorf("%v allocations per loan, want 0", n)
	}
}
