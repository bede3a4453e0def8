// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"maps"
	"slices"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// claims returns the records that are to be there, one for a service: in all datacenters of a federation it has one service-defaults
// entry, and so one function. Of two functions that ask for the same service (one is called "a-b", the other "a" with an alias "b") the
// one that has it keeps it; else a function comes before an alias.
func (p *planner) claims() []record {
	claims := make(map[mesh.Service]record)
	holder := func(r record) bool { return p.held[r.Key.fold()].function == r.function }
	for _, name := range slices.Sorted(maps.Keys(p.wishes)) {
		for _, r := range p.wishes[name].records {
			folded := r.Key.fold().Service
			other, taken := claims[folded]
			switch {
			case !taken:
				claims[folded] = r
			case !holder(other) && (holder(r) || other.alias != "" && r.alias == ""):
				claims[folded] = r
				p.warn(other.function.Name(), fmt.Sprintf("service %v is also asked for by function %s, which gets it", r.Key, r.function.Name()))
			default:
				p.warn(r.function.Name(), fmt.Sprintf("service %v is also asked for by function %s, which gets it", r.Key, other.function.Name()))
			}
		}
	}
	records := make([]record, 0, len(claims))
	for _, r := range claims {
		k := r.Key
		h, ok := p.held[k.fold()]
		if ok && !h.function.IsZero() && h.function != r.function && !p.released(k, h.function.Name()) {
			p.warn(r.function.Name(), fmt.Sprintf("service %v is still that of function %s", k, h.function.Name()))
			continue
		}
		records = append(records, r)
	}
	return records
}

// released says whether the function is known, by more than a listing, not to ask for k.
func (p *planner) released(k Key, function string) bool {
	w, known := p.wishes[function]
	return known && w.err == nil && !w.wants(k) && p.functions[function].confirmed
}

// waits says whether the service that a function or its alias has moved to stands in conflict: then the old one stays.
func (p *planner) waits(function, alias string) bool {
	for _, r := range p.wishes[function].records {
		if _, held := p.held[r.Key.fold()]; r.alias == alias && !held && !p.planned[r.Key.fold()] {
			return true
		}
	}
	return false
}
