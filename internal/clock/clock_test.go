// SPDX-License-Identifier: MPL-2.0

package clock_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
)

// R14: whichever clock stood still in a freeze, the age is what the other one says.
func TestElapsedTimeIsTheLargerOfBothClocks(t *testing.T) {
	start := clock.At(time.Unix(1000, 0), time.Hour)
	for name, c := range map[string]struct {
		now  clock.Instant
		want time.Duration
	}{
		"both advance":            {clock.At(time.Unix(1010, 0), time.Hour+10*time.Second), 10 * time.Second},
		"only the wall advances":  {clock.At(time.Unix(4600, 0), time.Hour+time.Second), time.Hour},
		"only mono advances":      {clock.At(time.Unix(1000, 0), 2*time.Hour), time.Hour},
		"the wall is set back":    {clock.At(time.Unix(10, 0), time.Hour+time.Second), time.Second},
		"neither moved":           {start, 0},
		"both are read backwards": {clock.At(time.Unix(999, 0), time.Minute), 0},
	} {
		if got := c.now.Sub(start); got != c.want {
			t.Errorf("%s: elapsed %v, want %v", name, got, c.want)
		}
	}
	if age := clock.Clock(nil).Now().Sub(clock.Instant{}); age < 1000*time.Hour {
		t.Errorf("the zero Instant is %v old, want for ever", age)
	}
}

func TestReadingTheSystemClockAllocatesNothing(t *testing.T) {
	var c clock.Clock
	last := c.Now()
	if n := testing.AllocsPerRun(100, func() { _ = c.Now().Sub(last) }); n != 0 {
		t.Errorf("%v allocations per reading, want 0", n)
	}
}

// R14: a thaw is noticed by the next use, and before it by the tick, whichever clock jumped.
func TestAWatchAnnouncesAGapOnce(t *testing.T) {
	jumps := map[string]func(*clocktest.Skew, time.Duration){
		"wall only": (*clocktest.Skew).JumpWall,
		"mono only": (*clocktest.Skew).JumpMono,
		"both":      (*clocktest.Skew).Jump,
	}
	for name, jump := range jumps {
		t.Run(name+", noticed by use", func(t *testing.T) {
			var skew clocktest.Skew
			var gap time.Duration
			w := clock.Watch{Clock: skew.Now}
			w.OnThaw(func(d time.Duration) { gap += d })
			w.Check()
			w.Check()
			if gap != 0 {
				t.Fatalf("a gap of %v was announced without one", gap)
			}
			jump(&skew, time.Hour)
			w.Check()
			w.Check()
			if gap < time.Hour || gap > time.Hour+time.Minute {
				t.Errorf("gaps of %v in all, want one of an hour", gap)
			}
		})
		t.Run(name+", noticed by the tick", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var skew clocktest.Skew
				var gaps atomic.Int32
				w := clock.Watch{Clock: skew.Now}
				w.OnThaw(func(time.Duration) { gaps.Add(1) })
				go w.Run(ctx)
				time.Sleep(time.Minute) // fake time: 300 ticks without a gap
				synctest.Wait()
				if n := gaps.Load(); n != 0 {
					t.Fatalf("%d gaps announced in a minute without one", n)
				}
				jump(&skew, time.Minute)
				time.Sleep(clock.Interval)
				synctest.Wait()
				if n := gaps.Load(); n != 1 {
					t.Errorf("%d gaps announced, want 1", n)
				}
			})
		})
	}
}

// A wall clock that is set back is no freeze.
func TestAWatchIgnoresAClockThatIsSetBack(t *testing.T) {
	var skew clocktest.Skew
	w := clock.Watch{Clock: skew.Now}
	w.OnThaw(func(d time.Duration) { t.Errorf("a gap of %v was announced", d) })
	w.Check()
	skew.JumpWall(-time.Hour)
	w.Check()
	w.Check()
}

// What the relay pays per chunk from the function, to see a thaw before it uses a connection. Blind spot: a clock source
// without vDSO, where a reading is a system call.
func BenchmarkWatchCheck(b *testing.B) {
	var w clock.Watch
	w.Check()
	b.ReportAllocs()
	for b.Loop() {
		w.Check()
	}
}
