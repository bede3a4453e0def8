// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Control-plane defect: "the periodic run never renews a stored certificate, which dies after at most 72 h". G8: leaves of all ages,
// a quarter of a life apart, kept alive for days of virtual time by a Consul that renews at 90 % only; and what that costs.
func TestNoLeafEverRunsOut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ttl, schedule, refresh, span time.Duration
		asks                         int // of one leaf in one life
	}{
		// Hourly from 60 % to 85 % and every ten minutes to 90 %: 18 + 22.
		{72 * time.Hour, 10 * time.Minute, 5 * time.Minute, 6 * 24 * time.Hour, 42},
		// Once at 60 %, and every minute from 85 % to 90 %.
		{time.Hour, time.Minute, time.Minute, 5 * time.Hour, 6},
	} {
		t.Run(fmt.Sprint("ttl=", test.ttl), func(t *testing.T) {
			t.Parallel()
			const functions = 6
			a := newAccount(newWorld(t, test.ttl), testOwner)
			random := rand.New(rand.NewPCG(1, 2))
			var log strings.Builder
			r := a.registrator(func(c *Config) {
				c.Schedule, c.Refresh, c.Log = test.schedule, test.refresh, slog.New(slog.NewTextHandler(&log, nil))
			})
			var at []time.Duration
			for range functions {
				at = append(at, time.Duration(random.Int64N(int64(test.ttl/4))))
			}
			var quietRuns, runs int
			for passed := time.Duration(0); passed < test.span; passed += test.schedule {
				for i, when := range at {
					if when >= passed && when < passed+test.schedule {
						a.tag(fmt.Sprintf("f%d", i))
					}
				}
				settled := passed > test.ttl+test.schedule
				ageing := false
				for _, i := range a.instances {
					s := readStored(i.Meta)
					// The extension may look as late as a refresh from now.
					if left := s.notAfter.Sub(a.now); left < test.refresh {
						t.Fatalf("%s has a leaf for %v", i.ID, left)
					}
					ageing = ageing || !a.now.Before(share(s, askFrom))
				}
				a.reset()
				result := run(t, r)
				if result.Warned != 0 {
					t.Fatalf("warnings %v", result.Warnings)
				}
				if runs++; settled && !ageing && !r.memory.datacentersAt.Equal(a.now) {
					quietRuns++
					if n := a.count(consulOps...); n != 5 || a.count(writeOps...) != 1 {
						t.Fatalf("a quiet run makes %d calls: %v", n, a.log)
					}
				}
				a.pass(test.schedule)
			}
			if quietRuns == 0 {
				t.Error("no run was quiet")
			}
			if strings.Contains(log.String(), "too short") {
				t.Errorf("log %s", log.String())
			}
			// The cost, of one leaf over some lives.
			b := newAccount(newWorld(t, test.ttl), testOwner)
			b.tag("web")
			r = b.registrator(func(c *Config) { c.Schedule, c.Refresh = test.schedule, test.refresh })
			for passed := time.Duration(0); passed < 3*test.ttl; passed += test.schedule {
				run(t, r)
				b.pass(test.schedule)
			}
			if n := b.count("Leaf"); n > 4*test.asks || n < 4 {
				t.Errorf("%d questions for a leaf in three lives", n)
			}
			if n := b.count("Put"); n > 5 {
				t.Errorf("%d documents in three lives", n)
			}
			t.Logf("%d runs, %d of them quiet; %d questions and %d documents of one leaf in three lives", runs, quietRuns, b.count("Leaf"), b.count("Put"))
		})
	}
}

// G8: servers behind one address have different leaves. Need decides, not bytes: another one that is no newer is not written.
func TestAnotherServersLeafIsNoReasonToWrite(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	first := a.documents[testPrefix+"/default/default/web"].version
	older := a.leaves[service(t, "web").Service]
	older.NotAfter = older.NotAfter.Add(-time.Hour)
	for range 30 {
		a.pass(2 * time.Hour)
		leaf := a.issue(service(t, "web").Service)
		leaf = Leaf{CertPEM: older.CertPEM, PrivateKeyPEM: older.PrivateKeyPEM, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
		a.badLeaf = func(Leaf) Leaf { return leaf } // what the server says of its times is not believed either
		if a.now.Before(older.NotBefore.Add(62 * time.Hour)) {
			run(t, r)
		}
	}
	if got := a.documents[testPrefix+"/default/default/web"].version; got != first || a.count("Leaf") < 2 {
		t.Errorf("version %d after %d questions, was %d", got, a.count("Leaf"), first)
	}
}

// G8: an attempt that gives nothing is a warning while there is time, and a failure when there is none.
func TestALeafThatIsNotRenewedIsSaid(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.fail("Leaf", "")
	a.pass(66 * time.Hour)
	if result := run(t, r); !mentions(result.Warnings, "injected") || !mentions(result.Warnings, "left") {
		t.Errorf("result %+v", result)
	}
	a.pass(5*time.Hour + 35*time.Minute)
	if _, err := runAny(t, r); err == nil || !strings.Contains(err.Error(), "web") {
		t.Errorf("error %v", err)
	}
	a.fault = nil
	old := a.leaves[service(t, "web").Service].Leaf
	a.badLeaf = func(Leaf) Leaf { return old }
	if _, err := runAny(t, r); err == nil || !strings.Contains(err.Error(), "no newer leaf") {
		t.Errorf("error %v", err)
	}
}

// G8: said once in a process, with what to set.
func TestLeavesThatAreTooShortAreSaidOnce(t *testing.T) {
	t.Parallel()
	a := newAccount(newWorld(t, time.Hour), testOwner)
	a.tag("web")
	var log strings.Builder
	r := a.registrator(func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	run(t, r)
	run(t, r)
	if strings.Count(log.String(), "too short") != 1 || !strings.Contains(log.String(), "leaf_cert_ttl to 2h50m0s") {
		t.Errorf("log %s", log.String())
	}
}
