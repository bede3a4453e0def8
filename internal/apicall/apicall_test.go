// SPDX-License-Identifier: MPL-2.0

package apicall

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// G9: pauses double up to a bound, each with a jitter of its second half.
func TestPausesDoubleUpToTheMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{Next: time.Second, Most: 3 * time.Second}
		for _, most := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
			start := time.Now()
			if !b.Wait(t.Context()) {
				t.Fatal("no pause")
			}
			if took := time.Since(start); took < most/2 || took > most {
				t.Errorf("paused for %v, want between %v and %v", took, most/2, most)
			}
		}
	})
}

// A pause that the context would cut short is not begun; one that it does cut short ends.
func TestAPauseDoesNotOutlastItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if b := (Backoff{Next: time.Minute, Most: time.Minute}); b.Wait(soon) || time.Since(start) != 0 {
			t.Errorf("waited for %v before a deadline that comes first", time.Since(start))
		}
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		if b := (Backoff{Next: time.Minute, Most: time.Minute}); b.Wait(ctx) || time.Since(start) != time.Second {
			t.Errorf("a context that ended after a second ended the pause after %v", time.Since(start))
		}
	})
}

func TestTheZeroBackoffDoesNotPause(t *testing.T) {
	t.Parallel()
	if b := (Backoff{}); !b.Wait(t.Context()) {
		t.Error("no try is left")
	}
}

// G9: a second's worth is admitted at once, and a negative rate is none.
func TestARateAdmitsASecondsWorthAtOnce(t *testing.T) {
	t.Parallel()
	if PerSecond(-1) != nil {
		t.Error("a negative rate limits")
	}
	l, now := PerSecond(2.5), time.Now()
	for n, want := range []bool{true, true, true, false} {
		if l.AllowN(now, 1) != want {
			t.Errorf("call %d: admitted is not %v", n+1, want)
		}
	}
}

// R18: a message from outside takes one short line of the log, and stays legal UTF-8.
func FuzzOneLine(f *testing.F) {
	f.Add("one\ntwo\t three")
	f.Add(strings.Repeat("é", 300))
	f.Fuzz(func(t *testing.T, s string) {
		got := OneLine(s)
		if strings.ContainsAny(got, "\r\n\t") || len(got) > maxMessage+len("…") || utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("%q", got)
		}
		if len(got) <= maxMessage && OneLine(got) != got {
			t.Errorf("%q becomes %q", got, OneLine(got))
		}
	})
}
