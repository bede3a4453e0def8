// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"net/http"
	"strings"
)

// table is a part of a store with an index of its own for X-Consul-Index.
type table int

const (
	catalogTable table = iota
	entryTable
	kvTable
	peeringTable
	tables
)

// store is what one datacenter knows. The server's lock guards it. Values in
// its maps are never changed in place: a write puts a new one there.
type store struct {
	datacenter string
	index      uint64         // of the last write, whether it changed anything or not
	changed    [tables]uint64 // index of the last change
	catalog    catalog
	entries    map[entryKey]*entry
	kv         map[kvKey]*pair
	peerings   map[peeringKey]*Peering
}

// newStore returns a store as a Consul server leaves it when it has started:
// with its own node and the service "consul" on it.
func (s *Server) newStore(datacenter string) *store {
	st := &store{
		datacenter: datacenter,
		index:      firstIndex,
		catalog:    newCatalog(),
		entries:    make(map[entryKey]*entry),
		kv:         make(map[kvKey]*pair),
		peerings:   make(map[peeringKey]*Peering),
	}
	st.changed[entryTable] = firstIndex
	home := s.scope("", "")
	own := &node{
		ID: agentID, Node: s.cfg.NodeName, Address: "127.0.0.1", Datacenter: datacenter, Partition: s.shown(home.partition),
		TaggedAddresses: map[string]string{"lan": "127.0.0.1", "lan_ipv4": "127.0.0.1", "wan": "127.0.0.1", "wan_ipv4": "127.0.0.1"},
		Meta:            map[string]string{"consul-network-segment": "", "consul-version": version},
	}
	idx := st.next()
	st.catalog.ensureNode(idx, own)
	_, _ = st.catalog.ensureService(idx, own.Node, &service{ // its node was just made
		ID: "consul", Service: "consul", Tags: []string{}, Port: 8300,
		Meta: map[string]string{"version": version}, Namespace: s.shown(home.namespace), Partition: s.shown(home.partition),
	})
	st.changed[catalogTable] = idx
	return st
}

// agentID is the node ID of every server. What looks at it has one cluster only.
const agentID = "0f4d5e9c-7b0a-4c54-8d7e-2d1f4a6b8c90"

// next begins a write and returns its index.
func (st *store) next() uint64 {
	st.index++
	return st.index
}

// touch notes that the last write changed t.
func (st *store) touch(t table, changed bool) {
	if changed {
		st.changed[t] = st.index
	}
}

// scope is where a name lives. In the community edition there is one scope, and
// its names are never shown.
type scope struct {
	partition string
	namespace string // "*": all, where that is allowed
}

const defaultScope = "default"

// scope fills in the defaults.
func (s *Server) scope(partition, namespace string) scope {
	sc := scope{defaultScope, defaultScope}
	if s.cfg.Enterprise {
		if partition != "" {
			sc.partition = strings.ToLower(partition)
		}
		if namespace != "" {
			sc.namespace = strings.ToLower(namespace)
		}
	}
	return sc
}

// shown is a part of a scope as JSON shows it: only Enterprise does.
func (s *Server) shown(part string) string {
	if s.cfg.Enterprise {
		return part
	}
	return ""
}

// contains reports whether in is one of sc's.
func (sc scope) contains(in scope) bool {
	return sc.partition == in.partition && (sc.namespace == "*" || sc.namespace == in.namespace)
}

// scope reads ?ns= and ?partition= and their headers, which the community
// edition refuses whatever they say.
func (x *exchange) scope() (scope, error) {
	partition, namespace := x.query.Get("partition"), x.query.Get("ns")
	if x.s.cfg.Enterprise {
		if partition == "" {
			partition = x.r.Header.Get("X-Consul-Partition")
		}
		if namespace == "" {
			namespace = x.r.Header.Get("X-Consul-Namespace")
		}
		return x.s.scope(partition, namespace), nil
	}
	switch {
	case x.r.Header.Get("X-Consul-Namespace") != "":
		return scope{}, badRequest(`Invalid header: "X-Consul-Namespace" - Namespaces are a Consul Enterprise feature`)
	case namespace != "":
		return scope{}, badRequest(`Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`)
	case x.r.Header.Get("X-Consul-Partition") != "":
		return scope{}, badRequest(`Invalid header: "X-Consul-Partition" - Partitions are a Consul Enterprise feature`)
	case partition != "":
		return scope{}, badRequest(`Invalid query parameter: "partition" - Partitions are a Consul Enterprise feature`)
	}
	return x.s.scope("", ""), nil
}

// oneScope is scope for requests that are about a single namespace.
func (x *exchange) oneScope() (scope, error) {
	sc, err := x.scope()
	if err == nil && sc.namespace == "*" {
		return scope{}, badRequest(`Invalid query parameter: "ns" - the wildcard is not allowed here`)
	}
	return sc, err
}

// datacenter is the one that ?dc= or ?datacenter= names; "": the local one.
func (x *exchange) datacenter() string {
	if dc := x.query.Get("datacenter"); dc != "" {
		return dc
	}
	return x.query.Get("dc")
}

// store returns the datacenter that the query names.
func (x *exchange) store() (*store, error) { return x.s.store(x.datacenter()) }

// access returns the datacenter that the query names, and what the request's token may do there.
func (x *exchange) access() (*store, authorizer, error) {
	st, err := x.store()
	if err != nil {
		return nil, authorizer{}, err
	}
	a, err := x.authorize()
	return st, a, err
}

// look is [exchange.access] with the scope that the request names.
func (x *exchange) look(scoped func() (scope, error)) (*store, scope, authorizer, error) {
	sc, err := scoped()
	if err != nil {
		return nil, sc, authorizer{}, err
	}
	st, a, err := x.access()
	return st, sc, a, err
}

// store returns the named datacenter's store, the local one for "".
func (s *Server) store(datacenter string) (*store, error) {
	if datacenter == "" {
		return s.stores[0], nil
	}
	for _, st := range s.stores {
		if st.datacenter == datacenter {
			return st, nil
		}
	}
	return nil, &failure{http.StatusInternalServerError, "No path to datacenter"}
}
