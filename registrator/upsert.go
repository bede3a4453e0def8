// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"maps"
	"slices"
	"strings"
)

// upsert plans what r needs.
func (p *planner) upsert(r Record) {
	if p.unread[r.realm()] != nil {
		return
	}
	h, held := p.held[r.Key.fold()]
	if err := p.unasked[r.Key.fold()]; err != nil {
		p.fail(r.Key.String(), "it could not be asked whether somebody else has that name: "+err.Error())
		return
	}
	if !held && p.movedNode(r.Key) {
		return
	}
	entry, whose, err := p.hold(r.Key)
	if conflict := p.conflict(r, held, entry, whose); conflict != "" || err != nil {
		if err != nil {
			conflict = "its service-defaults entry " + err.Error()
		}
		p.warn(r.Key.String(), "not registered: "+conflict)
		return
	}
	if r.Datacenter != "" && p.place.prefix != "" && r.Alias == "" {
		p.warn(r.Key.String(), "no credential document: only Consul in "+r.Datacenter+" can issue its leaf; it can be called from the mesh, and cannot call")
	}
	c := Change{Kind: Update, Name: r.Key.String(), Function: r.ARN(), key: r.Key, by: r.Function.Name(), urgency: urgentRepair, stored: h.stored}
	var reasons []string
	if !held {
		c.Kind, c.urgency = Create, urgentCreate
		reasons = append(reasons, "the tags of function "+r.Function.Name()+" ask for it")
	} else if h.adopted {
		reasons = append(reasons, "taken over from the predecessor")
	}
	c.entry = p.entryChange(r, entry, whose, h.adopted)
	if c.entry != nil && held && !h.adopted {
		reasons = append(reasons, "its service-defaults differ")
	}
	if r.Document == "" {
		c.stored = stored{}
	}
	want := Instance{Key: r.Key, ID: r.Service.Name(), Tags: []string{ServiceTag}, Meta: r.meta(c.stored)}
	if held {
		want.ID, want.Index = h.ID, h.Index
	}
	if !held || !slices.Equal(h.Tags, want.Tags) || !maps.Equal(h.Meta, want.Meta) {
		c.differs = true
		if held && !h.adopted {
			reasons = append(reasons, "its catalog entry differs")
		}
	}
	if r.Document != "" {
		if change, why, u := p.documentChange(r.Key, r.Document, c.stored); change != nil {
			c.document = change
			c.urgency = min(c.urgency, u)
			if held && !h.adopted {
				reasons = append(reasons, why)
				if len(reasons) == 1 {
					c.Kind, c.urgency = Renew, u
				}
			}
		}
	}
	if !c.differs && c.entry == nil && c.document == nil {
		return
	}
	c.instance = &want
	c.Reason = strings.Join(reasons, "; ")
	c.Diff = differences(state{entry, h.Instance, h.stored}, c)
	p.add(c)
}

// entryChange returns the service-defaults entry that r needs, nil if it is there.
func (p *planner) entryChange(r Record, e entry, whose hold, adopted bool) *Defaults {
	d := p.entries[r.Key.fold()]
	raw := e.merge(r, e.made(whose, adopted))
	if whose != holdNone && sameJSON(raw, d.Raw) {
		return nil
	}
	return &Defaults{Key: r.Key, Raw: raw, Index: d.Index}
}
