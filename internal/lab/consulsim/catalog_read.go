// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// read begins a read of the catalog: where to look and what the caller may see.
func (x *exchange) read(scoped func() (scope, error)) (*store, scope, authorizer, error) {
	st, sc, a, err := x.look(scoped)
	if err != nil {
		return nil, sc, a, err
	}
	x.meta(st.changed[catalogTable])
	return st, sc, a, nil
}

// nodeServices answers a node that is not there, or that may not be seen, with
// nothing: no node and no services.
func (x *exchange) nodeServices() (any, error) {
	st, sc, a, err := x.read(x.scope)
	if err != nil {
		return nil, err
	}
	name := x.r.PathValue("name")
	if name == "" {
		return nil, badRequest("Missing node name")
	}
	var out struct {
		Node     *node
		Services []*service
	}
	n := st.catalog.nodes[keyOf(sc.partition, name)]
	if n == nil {
		x.meta(1)
		return out, nil
	}
	if a.need(resourceNode, read, n.Node) != nil {
		x.filtered(true)
		return out, nil
	}
	out.Node = n
	hidden := false
	for _, k := range st.catalog.sorted(func(k serviceKey, _ *service) bool {
		return k.node == n.key() && sc.contains(scope{k.node.partition, k.namespace})
	}) {
		sv := st.catalog.services[k]
		if a.need(resourceService, read, sv.Service) != nil {
			hidden = true
			continue
		}
		out.Services = append(out.Services, sv.shown())
	}
	x.filtered(hidden)
	return out, nil
}

func (x *exchange) nodes() (any, error) {
	st, sc, a, err := x.read(x.scope)
	if err != nil {
		return nil, err
	}
	out, hidden := []*node{}, false
	for key, n := range st.catalog.nodes {
		switch {
		case key.partition != sc.partition:
		case a.need(resourceNode, read, n.Node) != nil:
			hidden = true
		default:
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *node) int { return cmp.Compare(strings.ToLower(a.Node), strings.ToLower(b.Node)) })
	x.filtered(hidden)
	return out, nil
}

// visible reports whether an instance is seen in lists of services: that takes
// the right to read its node, too.
func (st *store) visible(a authorizer, k serviceKey, sv *service) bool {
	return a.need(resourceNode, read, st.catalog.nodes[k.node].Node) == nil && a.need(resourceService, read, sv.Service) == nil
}

func (x *exchange) services() (any, error) {
	st, sc, a, err := x.read(x.oneScope)
	if err != nil {
		return nil, err
	}
	out, hidden := map[string][]string{}, false
	for k, sv := range st.catalog.services {
		switch {
		case !sc.contains(scope{k.node.partition, k.namespace}):
			continue
		case !st.visible(a, k, sv):
			hidden = true
			continue
		}
		tags := append(append([]string{}, out[sv.Service]...), sv.Tags...)
		slices.Sort(tags)
		out[sv.Service] = slices.Compact(tags)
	}
	x.filtered(hidden)
	return out, nil
}

// instance is a service together with its node, as /v1/catalog/service shows it.
type instance struct {
	ID, Node, Address, Datacenter string
	TaggedAddresses, NodeMeta     map[string]string
	ServiceKind                   string
	ServiceID, ServiceName        string
	ServiceTags                   []string
	ServiceAddress                string
	ServiceTaggedAddresses        map[string]serviceAddress `json:",omitempty"`
	ServiceWeights                weights
	ServiceMeta                   map[string]string
	ServicePort                   int
	ServicePorts                  json.RawMessage
	ServiceSocketPath             string
	ServiceEnableTagOverride      bool
	ServiceProxy, ServiceConnect  json.RawMessage
	ServiceLocality               json.RawMessage
	Namespace                     string `json:",omitempty"`
	Partition                     string `json:",omitempty"`
	CreateIndex, ModifyIndex      uint64
}

func (x *exchange) service() (any, error) {
	st, sc, a, err := x.read(x.oneScope)
	if err != nil {
		return nil, err
	}
	name := x.r.PathValue("name")
	if name == "" {
		return nil, badRequest("Missing service name")
	}
	out, hidden := []instance{}, false
	for _, k := range st.catalog.sorted(func(k serviceKey, sv *service) bool {
		return strings.EqualFold(sv.Service, name) && sc.contains(scope{k.node.partition, k.namespace})
	}) {
		sv, n := st.catalog.services[k].shown(), st.catalog.nodes[k.node]
		if !st.visible(a, k, sv) {
			hidden = true
			continue
		}
		if wanted := x.query["tag"]; !containsAll(sv.Tags, wanted) {
			continue
		}
		out = append(out, instance{
			ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter, TaggedAddresses: n.TaggedAddresses,
			NodeMeta: n.Meta, ServiceKind: sv.Kind, ServiceID: sv.ID, ServiceName: sv.Service, ServiceTags: sv.Tags,
			ServiceAddress: sv.Address, ServiceTaggedAddresses: sv.TaggedAddresses, ServiceWeights: *sv.Weights,
			ServiceMeta: sv.Meta, ServicePort: sv.Port, ServicePorts: sv.Ports, ServiceSocketPath: sv.SocketPath,
			ServiceEnableTagOverride: sv.EnableTagOverride, ServiceProxy: sv.Proxy, ServiceConnect: sv.Connect,
			ServiceLocality: sv.Locality, Namespace: sv.Namespace, Partition: sv.Partition,
			CreateIndex: sv.CreateIndex, ModifyIndex: sv.ModifyIndex,
		})
	}
	x.filtered(hidden)
	return out, nil
}

// containsAll compares tags as Consul does, whatever their case.
func containsAll(tags, wanted []string) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(tags, func(t string) bool { return strings.EqualFold(t, w) }) {
			return false
		}
	}
	return true
}

func (x *exchange) datacenters() (any, error) { return x.s.cfg.Datacenters, nil }
