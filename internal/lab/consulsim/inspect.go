// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A Service is an instance in the catalog, as tests put it and look at it.
type Service struct {
	Datacenter string // "": the local one
	Partition  string // "": default
	Namespace  string // "": default
	Node       string
	ID         string // "": Name
	Name       string
	Address    string
	Port       int
	Tags       []string
	Meta       map[string]string
	// CreateIndex and ModifyIndex are set by the server.
	CreateIndex uint64
	ModifyIndex uint64
}

// Services returns all instances of all datacenters but the servers' own
// "consul", in the order of datacenter, partition, namespace, node and ID.
func (s *Server) Services() []Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Service
	for _, st := range s.stores {
		for _, k := range st.catalog.sorted(s.foreign) {
			sv := st.catalog.services[k]
			out = append(out, Service{
				Datacenter: st.datacenter, Partition: k.node.partition, Namespace: k.namespace,
				Node: st.catalog.nodes[k.node].Node, ID: sv.ID, Name: sv.Service, Address: sv.Address, Port: sv.Port,
				Tags: slices.Clone(sv.Tags), Meta: cloneMeta(sv.Meta), CreateIndex: sv.CreateIndex, ModifyIndex: sv.ModifyIndex,
			})
		}
	}
	return out
}

// foreign leaves out what runs on the servers' own node.
func (s *Server) foreign(k serviceKey, _ *service) bool { return k.node != keyOf("", s.cfg.NodeName) }

func cloneMeta(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// PutService sets an instance, and makes its node with the address "127.0.0.1"
// if there is none. It is neither recorded as a call nor subject to faults and
// ACLs, but to Consul's rules.
func (s *Server) PutService(in Service) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.store(in.Datacenter)
	if err != nil {
		return fmt.Errorf("consulsim: putting service: %w", err)
	}
	sc := s.scope(in.Partition, in.Namespace)
	reg := registration{Node: in.Node, SkipNodeUpdate: true, Service: &service{
		ID: cmp.Or(in.ID, in.Name), Service: in.Name, Address: in.Address, Port: in.Port,
		Tags: slices.Clone(in.Tags), Meta: cloneMeta(in.Meta),
		Partition: s.shown(sc.partition), Namespace: s.shown(sc.namespace),
	}}
	err = reg.Service.prepare(authorizer{})
	if err == nil && in.Node == "" {
		err = failed("Must provide node")
	}
	if err == nil {
		err = st.apply(&reg, &node{
			Node: in.Node, Address: "127.0.0.1", Datacenter: st.datacenter, Partition: s.shown(sc.partition),
		})
	}
	if err != nil {
		return fmt.Errorf("consulsim: putting service: %w", err)
	}
	return nil
}

// PutEntry sets a config entry of the default partition, or of the one it
// names, from its JSON. Like PutService it is not a call.
func (s *Server) PutEntry(object string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fields, err := decodeEntry([]byte(object))
	if err != nil {
		return fmt.Errorf("consulsim: putting entry: %w", err)
	}
	key, e, err := s.newEntry(fields, s.scope(text(fields, "Partition"), text(fields, "Namespace")))
	if err != nil {
		return fmt.Errorf("consulsim: putting entry: %w", err)
	}
	for _, st := range s.stores {
		st.next()
		st.setEntry(key, *e)
	}
	return nil
}

// Entry returns the service-defaults entry of that name in the local datacenter
// and the default partition and namespace, as a read of it would be answered;
// "" if there is none.
func (s *Server) Entry(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.stores[0].entries[entryKey{serviceDefaults, s.scope("", ""), strings.ToLower(name)}]
	if e == nil {
		return ""
	}
	return string(marshal(e.show()))
}

// Index is the index of the local datacenter's last write, whether that changed
// anything or not. Signed leaves and noticed rotations count as writes.
func (s *Server) Index() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stores[0].index
}

// State returns everything that clients wrote, or tests put, as indented JSON:
// nodes, services, entries, keys and peerings of every datacenter. It has no
// indexes, hashes, roots or leaves, nor the servers' own node: two servers that
// were brought to the same state by different ways have the same State.
func (s *Server) State() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	type section struct {
		Datacenter string
		Nodes      []*node
		Services   map[string]*service // by node and ID
		Entries    []map[string]json.RawMessage
		KV         []pair
		Peerings   []Peering
	}
	var all []section
	for _, st := range s.stores {
		part := section{Datacenter: st.datacenter, Services: make(map[string]*service)}
		for k, n := range st.catalog.nodes {
			if s.foreign(serviceKey{node: k}, nil) {
				bare := *n
				bare.CreateIndex, bare.ModifyIndex = 0, 0
				part.Nodes = append(part.Nodes, &bare)
			}
		}
		slices.SortFunc(part.Nodes, func(a, b *node) int {
			return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Node, b.Node))
		})
		for _, k := range st.catalog.sorted(s.foreign) {
			bare := *st.catalog.services[k].shown()
			bare.CreateIndex, bare.ModifyIndex = 0, 0
			part.Services[strings.Join([]string{k.node.partition, k.namespace, k.node.name, k.id}, "/")] = &bare
		}
		for _, k := range st.sortedEntries() {
			part.Entries = append(part.Entries, st.entries[k].fields)
		}
		for _, p := range st.kv {
			bare := *p
			bare.CreateIndex, bare.ModifyIndex = 0, 0
			part.KV = append(part.KV, bare)
		}
		slices.SortFunc(part.KV, func(a, b pair) int {
			return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Key, b.Key))
		})
		for _, p := range st.sortedPeerings() {
			bare := *p
			bare.CreateIndex, bare.ModifyIndex = 0, 0
			part.Peerings = append(part.Peerings, bare)
		}
		all = append(all, part)
	}
	out, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("consulsim: state cannot be encoded: %v", err)) // all are plain data
	}
	return string(out)
}
