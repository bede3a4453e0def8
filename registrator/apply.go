// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
// by a run which then lost the catalog is written anew (memory.unsettled). What lost is planned once more from what is there now.

// margin is the time before the run's deadline in which nothing new is begun: a change takes some calls, and the heartbeat and the
// log come after. A short deadline gives a fifth of itself.
const margin = 10 * time.Second

// maxAgain is how many functions are looked at a second time in one run. More than that have lost to something that goes on, and are
// for the next run.
const maxAgain = 50

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

	mu        sync.Mutex // also for what apply remembers in memory
	result    Result
	undone    []undone
	failed    map[string]bool // functions of which a change was not made: theirs is not deleted
	blocked   map[Realm]bool  // realms without a node
	documents map[Key]stored  // what was written
	lookAgain bool
	deleted   map[Key]bool
}

// undone is a change that was not made, or not in whole.
type undone struct {
	by   string // the function that asks for it
	note Note
	left bool // that is no failure
	lost bool // what it was planned from has changed meanwhile
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
		// A leaf that runs out, or a root that is not there when it is needed, does not wait for a next run in silence (G8).
		urgent := c.urgency == urgentLeaf || c.urgency == urgentRoots
		a.undone = append(a.undone, undone{
			by: c.by, note: Note{c.Name, string(c.Kind) + ": " + err.Error()},
			left: errors.Is(err, errLeft) && !urgent || errors.Is(err, errAfter) || errors.Is(err, errWanted) || errors.Is(err, errGone),
			lost: errors.Is(err, ErrConflict) || errors.Is(err, errWanted) || errors.Is(err, errGone),
		})
	}
	if !done {
		return
	}
	switch {
	case c.node != nil:
		// counts are of services
	case c.Kind == Create:
		a.result.Created++
	case c.Kind == Update:
		a.result.Updated++
	case c.Kind == Renew:
		a.result.Renewed++
	case c.Kind == Delete:
		a.result.Deleted++
	}
	a.result.Changed = append(a.result.Changed, string(c.Kind)+" "+c.Name)
	a.log.InfoContext(ctx, "changed", "kind", string(c.Kind), "name", c.Name, "reason", c.Reason)
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

func (a *applier) late() bool { return !a.stop.IsZero() && !time.Now().Before(a.stop) }

// putNode makes or changes the node. Another registrator that shares it may have done so at the same moment.
func (a *applier) putNode(ctx context.Context, c Change) (done bool, err error) {
	if err = a.cfg.Consul.PutNode(ctx, c.realm, *c.node); errors.Is(err, ErrConflict) {
		if now, _, readErr := a.cfg.Consul.Services(ctx, c.realm, a.cfg.Node); readErr == nil && now.is(nodeMeta) {
			return false, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("writing the node: %w", err)
	}
	return true, nil
}

// put makes or changes a service.
func (a *applier) put(ctx context.Context, c Change) (done bool, err error) {
	if err := a.wanted(ctx, c); err != nil {
		return false, err
	}
	if c.entry != nil {
		if err := a.cfg.Consul.PutDefaults(ctx, *c.entry); err != nil {
			return false, fmt.Errorf("writing service-defaults: %w", err)
		}
	}
	instance, kept := *c.instance, c.stored
	var broken error
	if c.document != nil {
		var written stored
		if written, broken = a.write(ctx, c); written.version != 0 {
			kept = written
		} else if !c.differs {
			return c.entry != nil && broken == nil, broken
		}
	}
	if !c.differs && c.document == nil {
		return true, nil
	}
	instance.Meta = kept.into(maps.Clone(instance.Meta))
	err = a.cfg.Consul.PutService(ctx, a.cfg.Node, instance)
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.document != nil && kept != c.stored {
		if a.memory.unsettled[c.document.path] = kept.version; err == nil {
			delete(a.memory.unsettled, c.document.path)
		}
	}
	if err != nil {
		return false, errors.Join(broken, fmt.Errorf("writing the catalog: %w", err))
	}
	a.documents[c.key] = kept
	return true, broken
}

// write makes a document. The zero value and no error: there was nothing newer, and that is in order.
func (a *applier) write(ctx context.Context, c Change) (stored, error) {
	service, now := c.key.Service, a.now()
	a.askedNow(c.key, now)
	leaf, err := a.cfg.Consul.Leaf(ctx, service)
	if err == nil {
		leaf, err = checkLeaf(leaf, service, a.o.roots, now)
	}
	if err != nil {
		return stored{}, a.unrenewed(c, now, fmt.Errorf("getting its leaf: %w", err))
	}
	if !c.document.must && !leaf.NotAfter.After(c.stored.notAfter) {
		if now.Before(share(c.stored, renewedAt)) && c.stored.notAfter.Sub(now) >= 2*a.o.slack {
			return stored{}, nil // Consul renews it later
		}
		return stored{}, a.unrenewed(c, now, errors.New("Consul has no newer leaf"))
	}
	encoded, err := encodeDocument(leaf, service, a.o.roots, a.o.peersOf(c.key))
	if err != nil {
		return stored{}, err
	}
	if err := a.turn(ctx); err != nil {
		return stored{}, err
	}
	version, err := a.cfg.Documents.Put(ctx, c.document.path, encoded)
	if err != nil {
		return stored{}, fmt.Errorf("storing its document: %w", err)
	}
	if version <= 0 {
		return stored{}, fmt.Errorf("storing its document: the store gave it version %d", version)
	}
	return stored{
		notBefore: leaf.NotBefore, notAfter: leaf.NotAfter, roots: a.o.roots.metaID(), inputs: c.document.inputs,
		version: version, written: a.now(),
	}, nil
}

// share returns when that share of a leaf's life is over.
func share(s stored, part float64) time.Time {
	return s.notBefore.Add(time.Duration(part * float64(s.notAfter.Sub(s.notBefore))))
}

// unrenewed judges an attempt that gave nothing: a warning while there is time for another one, else a failure (G8).
func (a *applier) unrenewed(c Change, now time.Time, err error) error {
	left := c.stored.notAfter.Sub(now)
	if c.document.must || left < 2*a.o.slack {
		if c.stored.version != 0 {
			err = fmt.Errorf("%w; the one that it has is good for %v", err, left.Round(time.Second))
		}
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result.Warnings = append(a.result.Warnings, Note{c.Name, fmt.Sprintf("%v; there are %v left", err, left.Round(time.Second))})
	return nil
}

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

// remove takes a service out, or what is left of one.
func (a *applier) remove(ctx context.Context, c Change) error {
	if c.instance != nil || c.entry != nil {
		if err := a.unwanted(ctx, c); err != nil {
			return err
		}
	}
	if c.instance != nil {
		if err := a.cfg.Consul.DeleteService(ctx, a.cfg.Node, *c.instance); err != nil {
			return fmt.Errorf("taking it out of the catalog: %w", err)
		}
		a.mu.Lock()
		a.deleted[c.key], a.memory.taken[c.by] = true, a.now()
		a.mu.Unlock()
	}
	if c.entry != nil {
		if err := a.removeEntry(ctx, c); err != nil {
			return fmt.Errorf("taking our part out of its service-defaults: %w", err)
		}
	}
	if c.document == nil {
		return nil
	}
	if err := a.turn(ctx); err != nil {
		return err
	}
	if err := a.unwanted(ctx, c); err != nil { // that turn may have been a long way off
		return err
	}
	if err := a.cfg.Documents.Delete(ctx, c.document.path); err != nil {
		return fmt.Errorf("deleting its document: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.memory.taken[c.by] = a.now()
	return nil
}

// wanted reads the function of which a service is to be made, if that is known from a listing only: one that lags must not bring back
// what is gone (G2).
func (a *applier) wanted(ctx context.Context, c Change) error {
	if c.Kind != Create || a.o.functions[c.by].confirmed {
		return nil
	}
	f, err := a.cfg.Functions.Get(ctx, c.by)
	switch {
	case errors.Is(err, ErrNoFunction):
		return errGone
	case err != nil:
		return fmt.Errorf("reading function %s before it is registered: %w", c.by, err)
	case f.ARN.Owner() != a.o.owner || !a.o.place.wish(f).wants(c.key):
		return errGone
	}
	return nil
}

// unwanted reads once more the function that a delete is about: what the plan knows of it may be minutes old (G2, G7).
func (a *applier) unwanted(ctx context.Context, c Change) error {
	f, err := a.cfg.Functions.Get(ctx, c.by)
	switch {
	case errors.Is(err, ErrNoFunction):
		return nil
	case err != nil:
		return fmt.Errorf("reading function %s once more: %w", c.by, err)
	case f.ARN.Owner() != a.o.owner:
		return fmt.Errorf("%w: AWS shows %v: want functions of %v", ErrOwner, f.ARN, a.o.owner)
	}
	w := a.o.place.wish(f)
	stray := c.instance == nil && c.entry == nil
	if w.err != nil || w.wants(c.key) || stray && (len(w.records) > 0 || w.moved) {
		return errWanted
	}
	return nil
}

// removeEntry takes our part out of service-defaults. Where others have built on its protocol, such as a router, that stays.
func (a *applier) removeEntry(ctx context.Context, c Change) error {
	change := a.cfg.Consul.PutDefaults
	if c.without {
		change = a.cfg.Consul.DeleteDefaults
	}
	refused := change(ctx, *c.entry)
	if !errors.Is(refused, ErrInUse) {
		return refused
	}
	e, _, err := a.o.hold(c.key)
	if err != nil {
		return err
	}
	kept := *c.entry
	kept.Raw, _ = e.unmerge(madeExtension)
	if err := a.cfg.Consul.PutDefaults(ctx, kept); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result.Warnings = append(a.result.Warnings, Note{c.Name, "its service-defaults stay, with their protocol alone: " + refused.Error()})
	return nil
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
