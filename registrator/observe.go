// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// observe reads what a plan for scope is made of. A datacenter, partition, page or listing that cannot be read is left out in whole and
// named as a failure; the rest goes on, as leaves have to be renewed whatever else is the matter. Without the datacenters, the roots,
// or any realm, there is nothing to go on with: the error wraps ErrObserve, or ErrOwner, and what was read is not used (G2). It
// returns what the process is to remember if the plan is carried out.
func (r *Registrator) observe(ctx context.Context, scope Scope) (*observation, memory, error) {
	mem := r.memory.clone()
	o := &observation{
		at: r.now(), owner: r.cfg.Owner, node: r.cfg.Node, scope: scope, policy: r.cfg.Policy, maxDeletes: r.cfg.MaxDeletes,
		slack:     r.cfg.Schedule + r.cfg.Refresh,
		functions: make(map[string]sight), nodes: make(map[Realm]Node), instances: make(map[folded][]Instance),
		entries: make(map[folded]Defaults), namesakes: make(map[folded][]namesake), unasked: make(map[folded]error),
		peers: make(map[string][]mesh.DocumentPeer), unread: make(map[Realm]error), peerless: make(map[string]bool),
		asked: maps.Clone(mem.asked), unsettled: maps.Clone(mem.unsettled),
	}
	o.taken = mem.takenWithin(r.cfg.Schedule, o.at)
	v := &observer{Registrator: r, observation: o, mem: &mem}
	reading, cancel := half(ctx)
	defer cancel()
	for _, step := range []func(context.Context) error{v.datacenters, v.listings, v.store, v.confirm, v.names} {
		if err := cmp.Or(step(reading), ctx.Err()); err != nil { // in this order: a deadline does not tell what took the time
			if !errors.Is(err, ErrOwner) {
				err = fmt.Errorf("%w: %w", ErrObserve, err)
			}
			return nil, memory{}, err
		}
	}
	return o, mem, nil
}

// half bounds reading to half of the run's time: what one hanging datacenter has not answered by then is left out, and there is time
// to renew what is known (G2, G8).
func half(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// observer fills one observation.
type observer struct {
	*Registrator
	*observation
	mem      *memory
	mu       sync.Mutex // what the goroutines of a step write
	complete bool       // the listing of functions was whole
	blind    bool       // it failed
}

// listings reads AWS's and Consul's side at the same time.
func (v *observer) listings(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Concurrency)
	for _, realm := range v.place.realms() {
		g.Go(func() error { v.services(ctx, realm); return nil })
		g.Go(func() error { v.defaults(ctx, realm); return nil })
	}
	if v.cfg.DataPrefix != "" {
		g.Go(func() error { return v.trust(ctx) })
		for _, partition := range v.cfg.Partitions {
			g.Go(func() error { v.peerings(ctx, partition); return nil })
		}
	}
	if v.scope.full() {
		g.Go(func() error { return v.list(ctx) })
	} else {
		for _, name := range v.scope.Functions {
			g.Go(func() error { return v.get(ctx, name) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return v.leaveOut()
}
