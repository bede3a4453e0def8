// SPDX-License-Identifier: MPL-2.0

package clock

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Interval is how often a Watch reads the clocks while the process runs: five wake-ups a second, some 30 µs of
	// CPU. It bounds how late a thaw is noticed when the monotonic clock stood still and nothing calls Check.
	Interval = 200 * time.Millisecond

	// Threshold is the gap that counts as a freeze. A process with the CPU share of a 128 MB function is kept
	// waiting for tens of milliseconds as a matter of course; a wrong guess costs one sweep over the open connections, and
	// begins dials anew.
	Threshold = time.Second
)

// Watch notices that the process was frozen, by a gap between two readings of the clocks. Its users say what a gap
// means; a Watch only tells how long it was. The zero value is ready to use.
type Watch struct {
	Clock Clock

	// Tick is called by Run after each reading, for what is to be done now and then while the process runs: it costs no
	// wake-up of its own. Nil: nothing is. It must be quick.
	Tick func(now Instant)

	last atomic.Pointer[Instant] // the latest reading

	mu    sync.Mutex // held while a thaw is announced, so that no one passes Check before it was
	thawn []func(gap time.Duration)
}

// OnThaw makes f be called after each gap, with its length, in the order of registration. It is called by whichever
// goroutine noticed, with others held in Check until it returns: it must be quick, and must not call Check.
func (w *Watch) OnThaw(f func(gap time.Duration)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.thawn = append(w.thawn, f)
}

// Check reads the clocks and announces a gap if there was one. It is for the places where something frozen is about to
// be used; without a gap it costs one reading and takes no lock.
func (w *Watch) Check() {
	last := w.last.Load()
	if last == nil {
		w.read()
		return
	}
	now := w.Clock.Now()
	switch gap := now.Sub(*last); {
	case gap >= Threshold:
		w.read()
	case gap >= Interval: // nobody runs Run: the time between two uses is not to add up to a gap
		seen := now
		w.last.CompareAndSwap(last, &seen)
	}
}

// Run reads the clocks every Interval until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		w.read()
		if w.Tick != nil {
			w.Tick(w.Clock.Now())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *Watch) read() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.Clock.Now()
	last := w.last.Swap(&now)
	if last == nil {
		return
	}
	if gap := now.Sub(*last); gap >= Threshold {
		for _, f := range w.thawn {
			f(gap)
		}
	}
}
