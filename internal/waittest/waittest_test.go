// SPDX-License-Identifier: MPL-2.0

package waittest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// judge notes what a helper says of the test, and ends its goroutine as the real one does.
type judge struct {
	testing.TB
	ctx  context.Context
	says string
}

func (j *judge) Helper()                        {}
func (j *judge) Context() context.Context       { return j.ctx }
func (j *judge) Fatalf(format string, a ...any) { j.says = fmt.Sprintf(format, a...); runtime.Goexit() }

// verdict is what the helper fails a test with, "" if it does not.
func verdict(t *testing.T, helper func(testing.TB)) string {
	t.Helper()
	j := &judge{ctx: t.Context()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		helper(j)
	}()
	<-done
	return j.says
}

func TestAWaitEndsWhenItsConditionHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		soon := func() bool { return time.Since(began) >= time.Second }
		waittest.Until(t, "a second", soon)
		waittest.NoError(t, func(context.Context) error {
			if time.Since(began) < 2*time.Second {
				return errors.New("early")
			}
			return nil
		})
		if took := time.Since(began); took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("it took %v, want little more than 2 s", took)
		}
	})
}

func TestAWaitInVainFailsTheTestAndSaysForWhat(t *testing.T) {
	t.Parallel()
	var log waittest.Log
	_, _ = log.Write([]byte("all is well\n"))
	for want, helper := range map[string]func(testing.TB){
		"waited 45s for Godot": func(t testing.TB) { waittest.Until(t, "Godot", func() bool { return false }) },
		"not within 45s: still busy": func(t testing.TB) {
			waittest.NoError(t, func(context.Context) error { return errors.New("still busy") })
		},
		"waited 45s for a line with \"end\" in:\nall is": func(t testing.TB) { log.Await(t, "end") },
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			if got := verdict(t, helper); !strings.HasPrefix(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if took := time.Since(began); took < waittest.Patience || took > waittest.Patience+time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// A machine that pauses past the limit has not shown that the condition does not hold.
func TestAConditionIsLookedAtAfterTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		held := waittest.Within(time.Second, func() bool {
			time.Sleep(2 * time.Second) // the pause
			looks++
			return looks == 2
		})
		if !held {
			t.Error("the second look, after the limit, was not made")
		}
		if waittest.Within(time.Second, func() bool { return false }) {
			t.Error("what never held has held")
		}
	})
}

func TestALogCountsLines(t *testing.T) {
	t.Parallel()
	var log waittest.Log
	if log.String() != "" || log.Count("a") != 0 {
		t.Error("the zero value is not empty")
	}
	for _, part := range []string{"a a\nb\n", "b", "a"} {
		if n, err := log.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write returned %d, %v", n, err)
		}
	}
	if log.String() != "a a\nb\nba" || log.Count("a") != 2 || log.Count("b") != 2 || log.Count("c") != 0 {
		t.Errorf("%q: a in %d lines, b in %d, c in %d", log.String(), log.Count("a"), log.Count("b"), log.Count("c"))
	}
	log.Await(t, "ba")
}
