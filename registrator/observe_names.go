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

// name asks all of Consul's datacenters, those that are not kept too: a service's service-defaults are one for the federation. In
// those, our node's name may be a machine's.
func (v *observer) name(ctx context.Context, k Key) {
	var taken []Namesake
	for _, datacenter := range v.place.datacenters {
		there, node := k.in(v.place.key(datacenter)), v.cfg.Node
		if v.place.datacenter != "" && v.place.datacenter != datacenter {
			node = ""
		}
		err := v.unread[there.realm()]
		var found []Namesake
		if err == nil {
			found, err = v.cfg.Consul.Elsewhere(ctx, there, node)
		}
		if err != nil {
			v.mu.Lock()
			v.unasked[k.fold()] = err
			v.mu.Unlock()
			return
		}
		for _, n := range found {
			// One of ours in a datacenter that is not kept here: another registrator keeps it there, for the same function.
			if node != "" || n.Meta[metaOwner] != v.owner.String() {
				n.datacenter = datacenter
				taken = append(taken, n)
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.namesakes[k.fold()] = taken
}
