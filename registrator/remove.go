// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"errors"
	"fmt"
)

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
