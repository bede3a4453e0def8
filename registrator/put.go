// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

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

// put makes or changes a service: its service-defaults, its document, then its catalog entry, which commits. A document that cannot be
// had is an error beside what is done.
func (a *applier) put(ctx context.Context, c Change) (done bool, err error) {
	if err := a.wanted(ctx, c); err != nil {
		return false, err
	}
	if c.entry != nil {
		if err := a.cfg.Consul.PutDefaults(ctx, *c.entry); err != nil {
			return false, fmt.Errorf("writing service-defaults: %w", err)
		}
	}
	kept := c.stored // what the document is afterwards
	var broken error
	if c.document != nil {
		var written stored
		if written, broken = a.write(ctx, c); written.version != 0 {
			kept = written
		}
	}
	if !c.differs && kept == c.stored {
		return c.entry != nil && broken == nil, broken
	}
	instance := *c.instance
	instance.Meta = kept.into(maps.Clone(instance.Meta))
	err = a.cfg.Consul.PutService(ctx, a.cfg.Node, instance)
	a.mu.Lock()
	defer a.mu.Unlock()
	if kept != c.stored {
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
	a.mu.Lock()
	a.memory.asked[c.key] = now
	a.mu.Unlock()
	leaf, err := a.cfg.Consul.Leaf(ctx, service)
	if err == nil {
		leaf, err = a.o.roots.checkLeaf(leaf, service, now)
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
	encoded, err := a.o.documentFor(c.key, leaf)
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
