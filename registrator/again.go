// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"slices"
)

// maxAgain is how many functions are looked at a second time in one run. More than that have lost to something that goes on, and are
// for the next run.
const maxAgain = 50

// again looks once more at the functions that a lost a race about, and does what they need now: mostly nothing, as another run has
// done it. It is made once, so that two who undo each other's work are told of.
func (r *Registrator) again(ctx context.Context, a *applier) *applier {
	names := a.outdated()
	if len(names) == 0 || len(names) > maxAgain || a.late() {
		return a
	}
	o, mem, err := r.observe(ctx, Scope{Functions: names})
	if err != nil {
		return a // what failed stays a failure
	}
	r.memory = mem
	b := r.apply(ctx, o, calculate(o))
	b.follow(a, names)
	return b
}

// outdated returns the functions of which something was not done because what it was planned from has changed.
func (a *applier) outdated() []string {
	var names []string
	for _, u := range a.undone {
		if u.lost && u.by != "" {
			names = append(names, u.by)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// follow adds what first has done, but not what it left undone of the functions that a has looked at since.
func (a *applier) follow(first *applier, names []string) {
	for _, u := range first.undone {
		if !slices.Contains(names, u.by) {
			a.undone = append(a.undone, u)
		}
	}
	a.lookAgain = a.lookAgain || first.lookAgain
	a.result.add(first.result)
}
