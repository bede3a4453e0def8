// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// doubt is how long a listing is not believed about a function that was read by itself: the tagging API promises no time by which
	// a change shows, and must not undo what an event's run has just done.
	doubt = 15 * time.Minute

	// confirmBudget is how many functions are read to confirm what a listing does not show, where the listing is known to be a part
	// only: without the tagging API that is most of what is registered, and each run takes its turn at some.
	confirmBudget = 50
)

// list looks at all functions, or at the part of them that this run's turn is at.
func (v *observer) list(ctx context.Context) error {
	listing, err := v.cfg.Functions.List(ctx, v.mem.from)
	v.mu.Lock()
	defer v.mu.Unlock()
	if errors.Is(err, ErrOwner) {
		return err
	}
	if err != nil {
		v.blind = true
		v.failures = append(v.failures, Note{"functions", "listing functions: " + err.Error()})
		return nil
	}
	for _, f := range listing.Functions {
		if f.ARN.Owner() != v.owner {
			return v.notOurs(f)
		}
		v.functions[f.ARN.Name()] = sight{function: f}
	}
	v.complete = v.mem.from == "" && listing.Next == ""
	v.mem.from = listing.Next
	return nil
}

// get reads one function by itself. That it cannot be read is known of that function only (G10).
func (v *observer) get(ctx context.Context, name string) error {
	f, err := v.cfg.Functions.Get(ctx, name)
	s := sight{function: f, confirmed: true}
	switch {
	case errors.Is(err, ErrNoFunction):
		s = sight{confirmed: true, gone: true}
	case err != nil:
		s = sight{err: err}
	case f.ARN.Owner() != v.owner:
		return v.notOurs(f)
	case f.ARN.Name() != name:
		s = sight{err: fmt.Errorf("AWS answered with function %s", f.ARN.Name())}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.functions[name] = s
	if s.confirmed {
		v.mem.recent[name] = v.at
	}
	return nil
}

func (v *observer) notOurs(f Function) error {
	return fmt.Errorf("%w: AWS shows %v: want functions of %v", ErrOwner, f.ARN, v.owner)
}

// confirm reads by themselves the functions of which something might be deleted, and those that were so read a moment ago.
func (v *observer) confirm(ctx context.Context) error {
	certain, turn := v.unconfirmed()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Concurrency)
	for _, name := range slices.Concat(certain, v.inTurn(turn)) {
		g.Go(func() error { return v.reread(ctx, name) })
	}
	return g.Wait()
}

// unconfirmed returns, in the order of their names, the functions that this run has to read by themselves, and those that a listing of
// a part only does not show, which can wait for their turn.
func (v *observer) unconfirmed() (certain, turn []string) {
	held, wishes := v.holdings(), v.wishes()
	must, may := make(map[string]bool), make(map[string]bool)
	ask := func(name string, wanted bool) {
		s, known := v.functions[name]
		switch {
		case !functionPattern.MatchString(name) || !v.inScope(name) || s.confirmed || s.err != nil:
		case !known && v.blind: // AWS cannot be asked; the time is for what is held
		case !known && !v.complete:
			may[name] = true
		case !known || !wanted && wishes[name].err == nil:
			must[name] = true
		}
	}
	for _, h := range held {
		ask(h.function.Name(), wishes[h.function.Name()].wants(h.Key))
	}
	for k, function := range v.remnants(held) {
		ask(function.Name(), wishes[function.Name()].wants(k))
	}
	for path, s := range v.strays(held, wishes) {
		if s.Ours {
			ask(strayName(path), len(wishes[strayName(path)].records) > 0)
		}
	}
	for name, at := range v.mem.recent {
		if age := v.at.Sub(at); age < 0 || age >= doubt {
			delete(v.mem.recent, name)
		} else if s, known := v.functions[name]; known && !s.confirmed && s.err == nil {
			must[name] = true
		}
	}
	return slices.Sorted(maps.Keys(must)), slices.Sorted(maps.Keys(may))
}

// inTurn takes as many names as the budget allows, from where the last run stopped.
func (v *observer) inTurn(names []string) []string {
	if len(names) <= confirmBudget {
		return names
	}
	start, _ := slices.BinarySearch(names, v.mem.confirmed+"\x00")
	names = slices.Concat(names[start:], names[:start])[:confirmBudget]
	v.mem.confirmed = names[len(names)-1]
	return names
}

// reread gets a function without making its next run do so again: only an event's function is in doubt.
func (v *observer) reread(ctx context.Context, name string) error {
	v.mu.Lock()
	at, recent := v.mem.recent[name]
	v.mu.Unlock()
	if err := v.get(ctx, name); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if w, s := v.place.wish(v.functions[name].function), v.functions[name]; recent {
		v.mem.recent[name] = at
	} else if !s.gone && w.why == "" {
		delete(v.mem.recent, name)
	}
	return nil
}
