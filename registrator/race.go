// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"slices"
)

// A run may find, at a write, that what it planned from is not so any more: a compare-and-set lost against another run, or the function,
// read once more, asks for something else. Two events of one new function do that to each other every time. Such a change was not
// made, and no retry of it could be right: what it said is out of date. So the functions that it was for are observed, planned and
// applied once more, as if an event had named them; mostly the other run has done all, and there is nothing left to do. This second
// round is made once. What loses again is a failure like any other, so that two who undo each other's work are told of.

// maxAgain is how many functions a second round is for. More than that have lost to something that goes on, and are for the next run.
const maxAgain = 50

// settleRaces makes the second round of a run, if its first one lost a race. It returns the applier to go on with, whose result is that
// of both; what is there is as the later one has seen it.
func (r *Registrator) settleRaces(ctx context.Context, first *applier) *applier {
	names := first.lost()
	if len(names) == 0 || len(names) > maxAgain || first.late() {
		return first // what was lost is told as it is
	}
	o, mem, err := r.observe(ctx, Scope{Functions: names})
	if err != nil {
		return first
	}
	r.memory = mem
	second := r.apply(ctx, o, calculate(o))
	second.takeOver(first, names)
	return second
}

// lost returns the functions of which something was not done because what it was planned from has changed.
func (a *applier) lost() []string {
	var names []string
	for _, u := range a.undone {
		if u.lost && u.by != "" {
			names = append(names, u.by)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// takeOver adds to the second round what the first one has done, and what it left undone of other functions than those that the
// second one was for.
func (a *applier) takeOver(first *applier, names []string) {
	for _, u := range first.undone {
		if !slices.Contains(names, u.by) {
			a.undone = append(a.undone, u)
		}
	}
	a.lookAgain = a.lookAgain || first.lookAgain
	a.result.add(first.result)
}
