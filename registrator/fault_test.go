// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// eventful is a world in which a run has something of every kind to do, and something that it must leave alone.
func eventful(t testing.TB) (*account, *Registrator) {
	t.Helper()
	a := testAccount(t)
	for _, name := range []string{"keep", "change", "gone", "off"} {
		a.tag(name)
	}
	a.tag("part", "aliases", "old+stay")
	a.setEntry("gone", `{"Kind":"service-defaults","Name":"gone","Protocol":"http","MaxInboundConnections":7}`)
	a.setEntry("theirs", `{"Kind":"service-defaults","Name":"theirs","Protocol":"tcp"}`)
	a.set(testNode, Instance{Key: service(t, "theirs"), ID: "theirs"})
	serial := func(c *Config) { c.Concurrency = 1 }
	run(t, a.registrator(serial))
	a.pass(time.Hour)
	delete(a.functions, "gone")
	a.tag("off", "enabled", "false")
	a.tag("change", "invocation-mode", "asynchronous")
	a.tag("part", "aliases", "stay+new")
	a.tag("new")
	a.tag("theirs")
	a.set(testNode, Instance{Key: service(t, "adopted"), ID: "adopted", Tags: []string{ServiceTag}})
	a.setEntry("adopted", `{"Kind":"service-defaults","Name":"adopted","Protocol":"http","EnvoyExtensions":[
		{"Name":"builtin/aws/lambda","Arguments":{"ARN":"arn:aws:lambda:us-east-1:123456789012:function:adopted"}}]}`)
	a.tag("adopted")
	a.reset()
	return a, a.registrator(serial)
}

// Crash safety: whichever call fails, with or without having had its effect, alone or with all that follow it, nothing healthy is
// removed, and the next clean run reaches the end that a run without failures reaches.
func TestEachFailureOfEachCallHeals(t *testing.T) {
	t.Parallel()
	reference, r := eventful(t)
	run(t, r)
	end, calls := reference.state(), len(reference.log)
	quiet(t, r)
	if calls < 30 || !strings.Contains(end, "adopted") {
		t.Fatalf("%d calls, end\n%s", calls, end)
	}
	for name, mode := range map[string]struct {
		err          error
		after, crash bool
	}{
		"call fails":                {err: errInjected},
		"answer is lost":            {err: errInjected, after: true},
		"race is lost":              {err: ErrConflict},
		"process ends":              {err: errInjected, crash: true},
		"process ends after a call": {err: errInjected, after: true, crash: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for nth := 1; ; nth++ {
				a, r := eventful(t)
				seen, what := 0, ""
				a.fault = func(op, detail string) (before, after error) {
					seen++
					switch {
					case seen < nth || seen > nth && !mode.crash:
						return nil, nil
					case seen == nth && mode.after:
						what = op + " " + detail
						return nil, mode.err
					case seen == nth:
						what = op + " " + detail
					}
					return mode.err, nil
				}
				result, err := r.Run(context.Background(), Scope{})
				a.fault = nil
				if what == "" {
					if nth < calls {
						t.Errorf("only %d calls, want %d", nth-1, calls)
					}
					return
				}
				at := fmt.Sprintf("call %d, %s", nth, what)
				if err == nil && result.Warned == 0 && mode.err != nil && !strings.HasPrefix(what, "PutNode") {
					t.Errorf("%s: nobody was told", at)
				}
				for _, healthy := range []string{"keep", "change", "part", "part-stay", "theirs", "adopted"} {
					if _, ok := a.instance(healthy); !ok {
						t.Errorf("%s: %s was removed", at, healthy)
					}
				}
				for _, healthy := range []string{"keep", "change", "part"} {
					if _, ok := a.document(healthy); !ok || a.entry(healthy) == "" {
						t.Errorf("%s: the document or the service-defaults of %s were removed", at, healthy)
					}
				}
				if mode.crash {
					// A document that was left is found by a whole look, as is one that was written without its commit.
					r = a.registrator()
					a.pass(lookEvery)
				} else {
					a.pass(time.Hour)
				}
				if _, err := r.Run(context.Background(), Scope{}); err != nil {
					t.Errorf("%s: the next run: %v", at, err)
				}
				if got := a.state(); got != end {
					t.Fatalf("%s: the next run ends with\n%s\nwant\n%s", at, got, end)
				}
				quiet(t, r)
			}
		})
	}
}

// A run that is cancelled anywhere ends, and says so.
func TestACancelledRunEnds(t *testing.T) {
	t.Parallel()
	for nth := 1; nth < 60; nth += 5 {
		a, r := eventful(t)
		ctx, cancel := context.WithCancel(context.Background())
		seen := 0
		a.fault = func(string, string) (before, after error) {
			if seen++; seen == nth {
				cancel()
			}
			return nil, nil
		}
		result, err := r.Run(ctx, Scope{})
		cancel()
		if err == nil && len(result.Left) == 0 && result.Warned == 0 && seen > nth {
			t.Errorf("cancelled at call %d of %d: nobody was told", nth, seen)
		}
		if err != nil && !errors.Is(err, ErrObserve) && !errors.Is(err, ErrFailed) {
			t.Errorf("error %v", err)
		}
	}
}
