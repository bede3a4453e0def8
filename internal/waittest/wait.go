// SPDX-License-Identifier: MPL-2.0

package waittest

import (
	"context"
	"testing"
	"time"
)

// Patience bounds a wait that has no bound of its own. The slowest thing that is waited for is a Consul that spreads new leaves over
// 30 s after its root has changed.
const Patience = 45 * time.Second

// pace is the pause between two looks at a condition. asking is that between two questions to another process, which costs both.
const (
	pace   = time.Millisecond
	asking = 20 * time.Millisecond
)

// Until returns once the condition holds, and ends the test with what was waited for if it does not within [Patience]. It is called
// from the test's own goroutine, as is condition. In a testing/synctest bubble the time is the bubble's.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !Within(Patience, condition) {
		t.Fatalf("waited %v for %s", Patience, what)
	}
}

// Within reports whether the condition held before the limit had passed. It is looked at once more after that, so that a machine which
// pauses is not taken for a condition that does not hold.
func Within(limit time.Duration, condition func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(pace) {
		last := time.Now().After(end)
		if condition() {
			return true
		}
		if last {
			return false
		}
	}
}

// NoError asks until the answer is nil, some fifty times a second, and ends the test with the last error if it is not within [Patience].
// The context ends then, or with the test.
func NoError(t testing.TB, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	tick := time.NewTicker(asking)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", Patience, err)
		}
	}
}
