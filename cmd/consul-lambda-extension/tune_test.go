// SPDX-License-Identifier: MPL-2.0

package main

import (
	"runtime"
	"testing"
)

// Not parallel: the setting is the process's.
func TestOnlyAFunctionWithLessThanOneVCPURunsOnOneThread(t *testing.T) {
	whole := runtime.GOMAXPROCS(2)
	t.Cleanup(func() { runtime.GOMAXPROCS(whole) })
	for _, c := range []struct{ mb, want int }{{0, 1}, {128, 1}, {1768, 1}, {1769, 2}, {10240, 2}} {
		runtime.GOMAXPROCS(2)
		fitCPU(c.mb)
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("with %d MB: %d threads, want %d", c.mb, got, c.want)
		}
	}
}
