// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"slices"
)

// conflict says what stands in the way of r; "" if nothing does. See the table of calculate.
func (p *planner) conflict(r record, s standing) string {
	if s.unreadable != nil {
		return "its service-defaults entry " + s.unreadable.Error()
	}
	if !s.held {
		if by := p.occupied(r); by != "" {
			return by
		}
		if s.whose == holdLegacy {
			return "its service-defaults entry has a Lambda extension that this registrator did not put there"
		}
	}
	switch {
	case s.whose == holdForeign:
		return "its service-defaults entry invokes a function of somebody else, or was made by somebody else's registrator"
	case s.whose == holdPlain && s.entry.protocol != "" && s.entry.protocol != protocolHTTP:
		return fmt.Sprintf(`its service-defaults entry, which is somebody's, has protocol %q: want "" or "http"`, s.entry.protocol)
	case s.whose == holdPlain && p.elsewhere(r.Key) != "":
		return "a service of that name is registered on another node, " + p.elsewhere(r.Key) + ", and its service-defaults entry is somebody's"
	}
	return ""
}

// occupied says who has the name, or the ID, of a service that is to be created; "" for nobody.
func (p *planner) occupied(r record) string {
	if there := p.instances[r.Key.fold()]; len(there) > 0 {
		switch owner := there[0].Meta[metaOwner]; {
		case !slices.Contains(there[0].Tags, ServiceTag):
			return "somebody else has registered that name on node " + p.node
		case owner != "":
			return "the registrator of " + owner + " has registered that name on node " + p.node
		}
		return "a service of that name is on node " + p.node + ", and its service-defaults do not say that it is ours"
	}
	if other, taken := p.ids[r.Key.id(r.Service.Name())]; taken {
		return fmt.Sprintf("service %v has that ID on node %s", other, p.node)
	}
	for _, datacenter := range p.place.datacenters {
		k := r.Key.in(p.place.key(datacenter)).fold()
		if _, ours := p.held[k]; !ours && len(p.instances[k]) > 0 {
			return fmt.Sprintf("somebody else has registered that name on node %s of datacenter %s, with which it shares its service-defaults",
				p.node, datacenter)
		}
	}
	if where := p.elsewhere(r.Key); where != "" {
		return "a service of that name is registered on another node, " + where
	}
	return ""
}

// elsewhere names a node on which somebody has a service of that name; "" for none.
func (p *planner) elsewhere(k Key) string {
	if found := p.namesakes[k.fold()]; len(found) > 0 {
		return found[0].Node + " of datacenter " + found[0].datacenter
	}
	return ""
}
