// SPDX-License-Identifier: MPL-2.0

package clock_test

import (
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
)

// R14: where nobody runs Run, the time between many uses is no freeze, however long it is in all.
func TestUsesOneAfterAnotherDoNotAddUpToAGap(t *testing.T) {
	var skew clocktest.Skew
	w := clock.Watch{Clock: skew.Now}
	w.OnThaw(func(d time.Duration) { t.Errorf("a gap of %v was announced", d) })
	w.Check()
	for range 10 {
		skew.Jump(clock.Threshold / 3)
		w.Check()
	}
}

// A use that comes soon after another remembers nothing: the relay checks before every write.
func TestAUseSoonAfterAnotherAllocatesNothing(t *testing.T) {
	now := clock.At(time.Unix(1000, 0), time.Hour)
	w := clock.Watch{Clock: func() clock.Instant { return now }}
	w.Check()
	if n := testing.AllocsPerRun(100, func() {
		now = clock.At(now.Wall().Add(time.Microsecond), now.Mono()+time.Microsecond)
		w.Check()
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
