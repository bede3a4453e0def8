// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// The order of calls is what makes a run safe to stop anywhere: after each one, the next run sees what is missing and nothing that
// works has been taken away.
//
// A service is made or changed by
//
//	1 service-defaults   without the catalog entry nobody routes by it, and its mark says whose it is: the next run goes on with 2
//	2 document           a new version over a good one is as good; the meta still tells of the old one: if that was due, the next
//	                     run writes once more, else the next look at the store sees a foreign version and writes once more
//	3 catalog            commits: the meta say what 1 and 2 have done
//
// and taken out, after all else was done, by
//
//	1 catalog            nobody is sent there any more; the marked service-defaults tell the next run to go on with 2
//	2 service-defaults   the document is left: the process remembers to look at the whole store, and a new one does so by itself
//	                     within six hours
//	3 document           last, for it is what a mistaken delete would be healed with
//
// A document that cannot be had does not hold up the rest: the function can be called without it, and its meta without a version
// makes the next run try again.
//
// Another run may be under way: of an event, of another sandbox, of a laptop. Consul's writes are compare-and-set and lose against
// it. The store's are not: so the function is read once more just before its document is deleted, and a document that was stored
// by a run which then lost the catalog is written anew (memory.unsettled). What lost is planned once more (see settleRaces).

// margin is the time before the run's deadline in which nothing new is begun: a change takes some calls, and the heartbeat and the
// log come after. A short deadline gives a fifth of itself.
const margin = 10 * time.Second

var (
	errLeft   = errors.New("there was no time left in this run")
	errAfter  = errors.New("it waits for what was not done")
	errWanted = errors.New("meanwhile it is asked for again, or its tags are wrong")
	errGone   = errors.New("its function, read by itself, does not ask for it")
)

// applier carries out one plan.
type applier struct {
	*Registrator
	o    *observation
	stop time.Time // zero: never

	mu        sync.Mutex // guards what follows, and what is put into memory
	result    Result
	undone    []undone
	failed    map[string]bool // functions of which a change was not made: nothing of theirs is deleted
	blocked   map[Realm]bool  // realms without a node
	documents map[Key]stored  // of the services that were put into the catalog: what their meta say
	deleted   map[Key]bool    // services that were taken out of the catalog
	// nodeChanged: a node was written, so its index is not the one that was listed.
	nodeChanged bool
	lookAgain   bool // a delete was not made in whole: the next full run looks at all of the store
}

// undone is a change that was not made, or not in whole.
type undone struct {
	by   string // the function that asks for it
	note Note
	left bool // that is no failure
	lost bool // what it was planned from has changed meanwhile
}

// undoneBy says what an error means for c.
func (c Change) undoneBy(err error) undone {
	// A leaf that runs out, or a root that is not there when it is needed, does not wait for a next run in silence (G8).
	urgent := c.urgency == urgentLeaf || c.urgency == urgentRoots
	changed := errors.Is(err, errWanted) || errors.Is(err, errGone)
	return undone{
		by: c.by, note: Note{c.Name, string(c.Kind) + ": " + err.Error()},
		left: errors.Is(err, errLeft) && !urgent || errors.Is(err, errAfter) || changed,
		lost: errors.Is(err, ErrConflict) || changed,
	}
}

// apply carries out a plan. It returns when all that it began has ended.
func (r *Registrator) apply(ctx context.Context, o *observation, p Plan) *applier {
	a := &applier{
		Registrator: r, o: o, failed: make(map[string]bool), blocked: make(map[Realm]bool),
		documents: make(map[Key]stored), deleted: make(map[Key]bool),
	}
	a.result.Warnings, a.result.Failures, a.result.Left = p.Warnings, p.Failures, p.Held
	a.result.overCap = p.OverCap
	if deadline, ok := ctx.Deadline(); ok {
		a.stop = deadline.Add(-min(margin, time.Until(deadline)/5))
	}
	var changes, deletes []Change
	for _, c := range p.Changes {
		switch {
		case c.node != nil:
			a.do(ctx, c)
		case c.Kind == Delete:
			deletes = append(deletes, c)
		default:
			changes = append(changes, c)
		}
	}
	a.all(ctx, changes)
	a.all(ctx, deletes)
	return a
}

// all carries out changes, some at a time, begun in their order.
func (a *applier) all(ctx context.Context, changes []Change) {
	var g errgroup.Group
	g.SetLimit(a.cfg.Concurrency)
	for _, c := range changes {
		g.Go(func() error { a.do(ctx, c); return nil })
	}
	_ = g.Wait()
}

// do carries out one change and says how that went.
func (a *applier) do(ctx context.Context, c Change) {
	done, err := a.try(ctx, c)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failed[c.by] = true
		a.lookAgain = a.lookAgain || c.Kind == Delete
		if c.node != nil {
			a.blocked[c.realm] = true
		}
		a.undone = append(a.undone, c.undoneBy(err))
	}
	if done {
		a.nodeChanged = a.nodeChanged || c.node != nil
		a.result.made(c)
		a.log.InfoContext(ctx, "changed", "kind", string(c.Kind), "name", c.Name, "reason", c.Reason)
	}
}

// try carries out one change. done says that something was changed for good, which an error does not exclude.
func (a *applier) try(ctx context.Context, c Change) (done bool, err error) {
	a.mu.Lock()
	blocked, failed := a.blocked[c.key.realm()], a.failed[c.by]
	a.mu.Unlock()
	switch {
	case a.late() || ctx.Err() != nil:
		return false, errLeft
	case c.node != nil:
		return a.putNode(ctx, c)
	case c.Kind == Delete && failed:
		return false, fmt.Errorf("something else of function %s was not done: %w", c.by, errAfter)
	case c.Kind == Delete:
		err := a.remove(ctx, c)
		return err == nil, err
	case blocked:
		return false, errors.New("its node could not be written")
	}
	return a.put(ctx, c)
}

// late says whether the time is over in which something new is begun.
func (a *applier) late() bool { return !a.stop.IsZero() && !time.Now().Before(a.stop) }

// turn waits for a turn at the store, if one comes before the run has to stop.
func (a *applier) turn(ctx context.Context) error {
	if !a.stop.IsZero() {
		limited, cancel := context.WithDeadline(ctx, a.stop)
		defer cancel()
		ctx = limited
	}
	if a.puts.Wait(ctx) != nil {
		return errLeft
	}
	return nil
}

// tell puts what was not done into the result.
func (a *applier) tell() {
	for _, u := range a.undone {
		if u.left {
			a.result.Left = append(a.result.Left, u.note)
		} else {
			a.result.Failures = append(a.result.Failures, u.note)
		}
	}
}
