// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// chance is a world that is made by chance: functions of two accounts that share Consul, the node and most names, tags right and
// wrong, and things of others in the way.
type chance struct {
	*rand.Rand
	a, b *account
}

// newChance begins with nothing. The stream tells the tests apart that count seeds from 0.
func newChance(t testing.TB, seed, stream uint64) chance {
	t.Helper()
	w := newWorld(t, 0)
	w.dcs = []string{"dc1", "dc2"}
	return chance{rand.New(rand.NewPCG(seed, stream)), newAccount(w, testOwner), newAccount(w, otherOwner)}
}

func (c chance) one(of ...string) string { return of[c.IntN(len(of))] }

func (c chance) turn() {
	for _, account := range []*account{c.a, c.b} {
		for _, name := range []string{"a", "b", "c", "a-x", "b-y", "d"} {
			switch c.IntN(8) {
			case 0:
				delete(account.functions, name)
			case 1:
				account.functions[name] = map[string]string{"team": "x"}
			case 2:
				account.tag(name, "enabled", c.one("false", "true", "perhaps"))
			case 3, 4:
				account.tag(name, "aliases", c.one("", "x", "x+y", "y+z", "1"), "invocation-mode", c.one("", "ASYNCHRONOUS", "never"),
					"datacenter", c.one("", "", "dc1", "dc2", "dc3"))
			case 5:
				account.tag(name)
			}
		}
	}
	w := c.a.world
	switch c.IntN(6) {
	case 0:
		w.setEntry(c.one("a", "b", "c", "d"), `{"Kind":"service-defaults","Name":"n","Protocol":"`+c.one("", "http", "tcp")+`","X":[1]}`)
	case 1:
		w.set("other", Instance{Key: service(w, c.one("a", "d", "b-x")), ID: "other"})
	case 2:
		w.set(testNode, Instance{Key: service(w, "d-x"), ID: "d-x"})
	case 3:
		w.ca.Rotate(w)
	}
	w.pass(time.Duration(c.IntN(7)) * time.Hour)
}

// G1, G3, G5, G7, G9, whatever happens: a run leaves nothing for a second one, its plan is in order, deletes come last and have a
// reason, and what others own stays as it was.
func TestWhateverHappensASecondRunIsEmpty(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		c := newChance(t, seed, 7)
		w := c.a.world
		many := func(cfg *Config) { cfg.MaxDeletes = 1000 }
		runners := []*Registrator{c.a.registrator(many), c.b.registrator(many)}
		for turn := range 8 {
			c.turn()
			for i, r := range runners {
				p, err := r.Plan(context.Background(), Scope{})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.IsSortedFunc(p.Changes, func(a, b Change) int { return int(a.urgency) - int(b.urgency) }) {
					t.Errorf("out of order:\n%v", p)
				}
				for _, change := range p.Changes {
					if change.Reason == "" || (change.Kind == Delete) != (change.urgency == urgentDelete) {
						t.Errorf("change %+v", change)
					}
				}
				before := theirs(w, r.cfg.Owner)
				run(t, r)
				if after := theirs(w, r.cfg.Owner); after != before {
					t.Fatalf("seed %d, turn %d: what is not of %v became\n%s\nwas\n%s", seed, turn, r.cfg.Owner, after, before)
				}
				w.pass(time.Minute)
				if p, err := r.Plan(context.Background(), Scope{}); err != nil || !p.Empty() {
					t.Fatalf("seed %d, turn %d, account %d: a second run has\n%v", seed, turn, i, p)
				}
			}
		}
	}
}

// theirs is all that does not belong to the owner: instances without his meta, entries without his mark that he may not merge into.
func theirs(w *world, o Owner) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for at, i := range w.instances {
		if i.Meta[metaOwner] != o.String() {
			lines = append(lines, fmt.Sprint(at, i.Index))
		}
	}
	for k, d := range w.entries {
		if e, err := readEntry(d.Raw); err == nil && (e.hold(o) == holdForeign || e.hold(o) == holdPlain && e.protocol == "tcp") {
			lines = append(lines, fmt.Sprint(k, string(d.Raw)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// G2, G7: with nothing but listings there is never a delete; calculate needs each function to have been read by itself.
func TestAPlanFromListingsOnlyNeverDeletes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		c := newChance(t, seed, 11)
		c.turn()
		r := c.a.registrator()
		run(t, r)
		c.turn()
		o, _, err := r.observe(context.Background(), Scope{})
		if err != nil {
			t.Fatal(err)
		}
		for name, s := range o.functions {
			switch c.IntN(3) {
			case 0:
				delete(o.functions, name)
			case 1:
				o.functions[name] = sight{err: errInjected}
			default:
				s.confirmed, s.gone = false, false
				o.functions[name] = s
				if s.function.ARN.IsZero() {
					delete(o.functions, name)
				}
			}
		}
		for _, change := range calculate(o).Changes {
			if change.Kind == Delete {
				t.Errorf("seed %d: %+v", seed, change)
			}
		}
	}
}

// G3: the same observation gives the same plan.
func TestAPlanIsAPureFunction(t *testing.T) {
	t.Parallel()
	a, r := eventful(t)
	_ = a
	o, _, err := r.observe(context.Background(), Scope{})
	if err != nil {
		t.Fatal(err)
	}
	first := calculate(o).String()
	for range 20 {
		if again := calculate(o).String(); again != first {
			t.Fatalf("first\n%s\nthen\n%s", first, again)
		}
	}
}
