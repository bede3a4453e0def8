// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Peering is a connection to another cluster, as [Server.PutPeering] takes it
// and as Consul shows it.
type Peering struct {
	// ID is a UUID. Empty: one that is derived from the name.
	ID string
	// Name is ours for the peer. It must not be empty.
	Name string
	// Partition of ours that is peered. Only Enterprise has others than "".
	Partition string            `json:",omitempty"`
	Meta      map[string]string `json:",omitempty"`
	// State is "ACTIVE", "PENDING", "ESTABLISHING", "FAILING", "DELETING" or
	// "TERMINATED". Empty: "ACTIVE".
	State               string
	PeerID              string   `json:",omitempty"`
	PeerCAPems          []string `json:",omitempty"`
	PeerServerName      string   `json:",omitempty"`
	PeerServerAddresses []string `json:",omitempty"`
	StreamStatus        StreamStatus
	// CreateIndex and ModifyIndex are set by the server.
	CreateIndex uint64
	ModifyIndex uint64
	// Remote is where the peer is.
	Remote PeeringRemote
}

// StreamStatus is what the peering's stream has done.
type StreamStatus struct {
	ImportedServices []string
	ExportedServices []string
	LastHeartbeat    *time.Time
	LastReceive      *time.Time
	LastSend         *time.Time
}

// PeeringRemote is the partition and the datacenter of a peer.
type PeeringRemote struct {
	Partition  string
	Datacenter string
}

type peeringKey struct{ partition, name string }

// PutPeering makes a peering of the local datacenter, or replaces the one of
// that name.
func (s *Server) PutPeering(p Peering) {
	if p.Name == "" {
		panic("consulsim: a peering needs a name")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, sc := s.stores[0], s.scope(p.Partition, "")
	p.Partition = s.shown(sc.partition)
	p.State = cmp.Or(p.State, "ACTIVE")
	p.ID = cmp.Or(p.ID, fmt.Sprintf("%08x-0000-4000-8000-000000000000", len(st.peerings)+1))
	p.ModifyIndex = st.next()
	p.CreateIndex = p.ModifyIndex
	key := peeringKey{sc.partition, strings.ToLower(p.Name)}
	if old := st.peerings[key]; old != nil {
		p.ID, p.CreateIndex = old.ID, old.CreateIndex
	}
	st.peerings[key] = &p
	st.touch(peeringTable, true)
}

// DeletePeering forgets a peering of the local datacenter's default partition.
func (s *Server) DeletePeering(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stores[0]
	st.next()
	delete(st.peerings, peeringKey{defaultScope, strings.ToLower(name)})
	st.touch(peeringTable, true)
}

// peeringsRead begins a read, which needs peering:read.
func (x *exchange) peeringsRead() (*store, scope, error) {
	sc, err := x.oneScope()
	if err != nil {
		return nil, sc, err
	}
	st, a, err := x.access()
	if err != nil {
		return nil, sc, err
	}
	x.meta(st.changed[peeringTable])
	return st, sc, a.need(resourcePeering, read, "")
}

func (x *exchange) peerings() (any, error) {
	st, sc, err := x.peeringsRead()
	if err != nil {
		return nil, err
	}
	out := []*Peering{}
	for _, p := range st.sortedPeerings() {
		if cmp.Or(p.Partition, defaultScope) == sc.partition {
			out = append(out, p)
		}
	}
	return out, nil
}

func (st *store) sortedPeerings() []*Peering {
	return slices.SortedFunc(maps.Values(st.peerings), func(a, b *Peering) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Name, b.Name))
	})
}

func (x *exchange) peering() (any, error) {
	name := x.r.PathValue("name")
	if name == "" {
		return nil, badRequest("Must specify a name to fetch.")
	}
	st, sc, err := x.peeringsRead()
	if err != nil {
		return nil, err
	}
	if p := st.peerings[peeringKey{sc.partition, strings.ToLower(name)}]; p != nil {
		return p, nil
	}
	return nil, &failure{http.StatusNotFound, fmt.Sprintf("Peering not found for %q", name)}
}
