// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// datacenters places the tags. The list is kept for hours, for it changes about never.
func (v *observer) datacenters(ctx context.Context) error {
	if age := v.at.Sub(v.mem.datacentersAt); v.mem.datacenters == nil || age < 0 || age >= lookEvery {
		found, err := v.cfg.Consul.Datacenters(ctx)
		if err != nil {
			return fmt.Errorf("listing datacenters: %w", err)
		}
		if len(found) == 0 {
			return errors.New("listing datacenters: Consul names none")
		}
		v.mem.datacenters, v.mem.datacentersAt = found, v.at
	}
	v.place = placement{
		datacenter: v.cfg.Datacenter, datacenters: v.mem.datacenters, enterprise: v.cfg.Enterprise,
		partitions: v.cfg.Partitions, prefix: v.cfg.DataPrefix,
	}
	if d := v.cfg.Datacenter; d != "" && !slices.Contains(v.mem.datacenters, d) {
		return fmt.Errorf("datacenter %q: want one of Consul's: %s", d, strings.Join(v.mem.datacenters, ", "))
	}
	return nil
}

// services reads our node, and what is on it.
func (v *observer) services(ctx context.Context, realm Realm) {
	node, instances, err := v.cfg.Consul.Services(ctx, realm, v.cfg.Node)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.unread[realm] = fmt.Errorf("listing the services of node %s in %v: %w", v.cfg.Node, realm, err)
		return
	}
	if local := v.place.local(); realm.Datacenter == "" && node.Datacenter != "" && node.Datacenter != local {
		v.unread[realm] = fmt.Errorf("the server is of datacenter %s, and %s was taken for its own: allow the token agent:read",
			node.Datacenter, local)
		return
	}
	v.nodes[realm] = node
	for _, i := range instances {
		i.Datacenter = realm.Datacenter
		v.instances[i.Key.fold()] = append(v.instances[i.Key.fold()], i)
	}
}

func (v *observer) defaults(ctx context.Context, realm Realm) {
	entries, err := v.cfg.Consul.Defaults(ctx, realm)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.unread[realm] = fmt.Errorf("listing service-defaults in %v: %w", realm, err)
		return
	}
	for _, d := range entries {
		d.Datacenter = realm.Datacenter
		v.entries[d.Key.fold()] = d
	}
}

// trust reads the roots. Without them no leaf can be judged, nor a document made.
func (v *observer) trust(ctx context.Context) error {
	roots, err := v.cfg.Consul.Roots(ctx)
	if err != nil {
		return fmt.Errorf("listing root certificates: %w", err)
	}
	if len(roots.PEM) == 0 || roots.TrustDomain == "" {
		return errors.New("listing root certificates: Consul gave none, or no trust domain: is its service mesh enabled?")
	}
	v.roots = roots
	return nil
}

// peerings reads the peers that documents of a partition name.
func (v *observer) peerings(ctx context.Context, partition string) {
	v.mu.Lock()
	denied, found := v.mem.peersDenied[partition]
	v.mu.Unlock()
	if age := v.at.Sub(denied); found && age >= 0 && age < lookEvery {
		return
	}
	peers, err := v.cfg.Consul.Peers(ctx, partition)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case errors.Is(err, ErrDenied):
		// The predecessor's token has no such rule, and needs none to go on as it did: without peers. Consul takes 10 s and more for
		// the refusal, so it is not asked in every run.
		v.mem.peersDenied[partition] = v.at
		v.log.WarnContext(ctx, "peerings are not known: documents name no peers", "partition", partition, "error", err.Error())
	case err != nil:
		v.peerless[partition] = true
		v.failures = append(v.failures, Note{Realm{Partition: partition}.String(), "listing peerings: " + err.Error()})
	default:
		delete(v.mem.peersDenied, partition)
		v.peers[partition] = sortedPeers(peers)
	}
}

// leaveOut forgets what was read of a realm that was not read in whole.
func (v *observer) leaveOut() error {
	read := false
	for _, realm := range v.place.realms() {
		read = read || v.unread[realm] == nil
	}
	if !read {
		return v.unread[v.place.realms()[0]]
	}
	for realm, err := range v.unread {
		v.failures = append(v.failures, Note{realm.String(), "nothing was done there, and nothing deleted anywhere: " + err.Error()})
		delete(v.nodes, realm)
	}
	maps.DeleteFunc(v.instances, func(k folded, _ []Instance) bool { return v.unread[Key(k).realm()] != nil })
	maps.DeleteFunc(v.entries, func(k folded, _ Defaults) bool { return v.unread[Key(k).realm()] != nil })
	return nil
}
