// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"maps"
	"slices"
	"strings"
)

// upsert plans what the service that r asks for needs, unless something stands in its way.
func (p *planner) upsert(r record) {
	if p.unread[r.realm()] != nil {
		return // that is a failure already
	}
	if err := p.unasked[r.Key.fold()]; err != nil {
		p.fail(r.Key.String(), "it could not be asked whether somebody else has that name: "+err.Error())
		return
	}
	s := p.standing(r.Key)
	if !s.held && p.onRenamedNode(r.Key) {
		return
	}
	if conflict := p.conflict(r, s); conflict != "" {
		p.warn(r.Key.String(), "not registered: "+conflict)
		return
	}
	if r.Datacenter != "" && p.place.prefix != "" && r.alias == "" {
		p.warn(r.Key.String(), "no credential document: only Consul in "+r.Datacenter+
			" can issue its leaf; it can be called from the mesh, and cannot call")
	}
	if c, needed := p.upsertChange(r, s); needed {
		p.add(c)
	}
}

// upsertChange returns the change that makes what there is of a service equal to r, if one is needed.
func (p *planner) upsertChange(r record, s standing) (c Change, needed bool) {
	c = Change{
		Kind: Update, Name: r.Key.String(), Function: r.arn(), urgency: urgentRepair,
		key: r.Key, by: r.function.Name(), stored: s.stored,
	}
	if !s.held {
		c.Kind, c.urgency = Create, urgentCreate
	}
	if r.document == "" {
		c.stored = stored{}
	}
	var differs []string
	if c.entry = p.entryChange(r, s); c.entry != nil {
		differs = append(differs, "its service-defaults differ")
	}
	want := s.instanceFor(r, c.stored)
	if c.instance = &want; !s.held || !slices.Equal(s.Tags, want.Tags) || !maps.Equal(s.Meta, want.Meta) {
		c.differs = true
		differs = append(differs, "its catalog entry differs")
	}
	documentOnly := false
	if r.document != "" {
		if change, why, u := p.documentChange(r.Key, r.document, c.stored); change != nil {
			documentOnly = s.held && !s.adopted && len(differs) == 0
			differs = append(differs, why)
			if c.document, c.urgency = change, min(c.urgency, u); documentOnly {
				c.Kind, c.urgency = Renew, u
			}
		}
	}
	switch {
	case !s.held:
		c.Reason = "the tags of function " + r.function.Name() + " ask for it"
	case s.adopted:
		c.Reason = "taken over from the predecessor"
	default:
		c.Reason = strings.Join(differs, "; ")
	}
	c.Diff = differences(s, c)
	return c, len(differs) > 0
}

// instanceFor returns the instance that r asks for, in the place of the one that there is.
func (s standing) instanceFor(r record, document stored) Instance {
	i := Instance{Key: r.Key, ID: r.Service.Name(), Tags: []string{ServiceTag}, Meta: r.meta(document)}
	if s.held {
		i.ID, i.Index = s.ID, s.Index
	}
	return i
}

// entryChange returns the service-defaults entry that r needs, nil if it is there.
func (p *planner) entryChange(r record, s standing) *Defaults {
	d := p.entries[r.Key.fold()]
	raw := s.entry.merge(r, s.made())
	if s.whose != holdNone && sameJSON(raw, d.Raw) {
		return nil
	}
	return &Defaults{Key: r.Key, Raw: raw, Index: d.Index}
}
