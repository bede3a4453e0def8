// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// names asks, of what may have to be created or merged, whether somebody else has the name.
func (v *observer) names(ctx context.Context) error {
	held := v.holdings()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Concurrency)
	for _, w := range v.wishes() {
		for _, r := range w.records {
			_, ours := held[r.Key.fold()]
			_, whose, _ := v.hold(r.Key)
			if v.unread[r.realm()] == nil && (whose == holdPlain || !ours && len(v.instances[r.Key.fold()]) == 0) {
				g.Go(func() error { v.name(ctx, r.Key); return nil })
			}
		}
	}
	return g.Wait()
}

// name asks all of Consul's datacenters, those that are not kept too: a service's service-defaults are one for the federation.
func (v *observer) name(ctx context.Context, k Key) {
	var (
		taken []namesake
		err   error
	)
	for _, datacenter := range v.place.datacenters {
		var found []namesake
		if found, err = v.nameIn(ctx, k, datacenter); err != nil {
			break
		}
		taken = append(taken, found...)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.unasked[k.fold()] = err
		return
	}
	v.namesakes[k.fold()] = taken
}

// nameIn asks one of them. In one that is not kept our node's name may be a machine's, and a service of ours is no obstacle: another
// registrator keeps it there, for the same function.
func (v *observer) nameIn(ctx context.Context, k Key, datacenter string) (taken []namesake, err error) {
	there, node := k.in(v.place.key(datacenter)), v.cfg.Node
	if err := v.unread[there.realm()]; err != nil {
		return nil, err
	}
	kept := v.place.datacenter == "" || v.place.datacenter == datacenter
	if !kept {
		node = ""
	}
	found, err := v.cfg.Consul.Elsewhere(ctx, there, node)
	if err != nil {
		return nil, err
	}
	for _, n := range found {
		if kept || n.Meta[metaOwner] != v.owner.String() {
			taken = append(taken, namesake{n, datacenter})
		}
	}
	return taken, nil
}
