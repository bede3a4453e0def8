// SPDX-License-Identifier: MPL-2.0

package main

import (
	"runtime"
	"testing"
)

// Not parallel: the setting is the process's.
func TestThereIsOneThreadForEachWholeVCPUOfTheFunction(t *testing.T) {
	whole := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(whole) })
	for _, c := range []struct{ seen, mb, want int }{
		{2, 0, 1}, {2, 128, 1}, {2, 1769, 1}, {2, 3537, 1}, {2, 3538, 2}, {6, 3538, 2}, {6, 10240, 5}, {2, 10240, 2}, {1, 10240, 1},
	} {
		fitCPU(c.mb, c.seen)
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("%d CPUs are seen, %d MB: %d threads, want %d", c.seen, c.mb, got, c.want)
		}
	}
}
