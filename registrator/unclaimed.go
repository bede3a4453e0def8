// SPDX-License-Identifier: MPL-2.0

package registrator

// keep plans for a service of ours that is in scope and that no function is known to ask for, or that stands in conflict: a delete
// where there is a reason for one, else that its leaf stays alive.
func (p *planner) keep(h holding) {
	name := h.function.Name()
	switch {
	case p.planned[h.Key.fold()]:
	case h.function.IsZero():
		p.warn(h.Key.String(), "its meta does not name its function: it is kept as it is")
		p.alive(h)
	case p.released(h.Key, name) && !p.waits(name, h.alias):
		p.delete(h)
	default:
		p.alive(h)
	}
}

// delete plans to take out a service of ours with all that belongs to it.
func (p *planner) delete(h holding) {
	s := p.standing(h.Key)
	c := h.change(Delete)
	c.urgency, c.Reason = urgentDelete, p.wishes[h.function.Name()].because(h.Key, h.alias)
	c.entry, c.without = p.entryWithout(h.Key, s)
	if path := p.documentOf(h); path != "" {
		c.document = &documentChange{path: path, remove: true}
	}
	c.Diff = differences(s, c)
	p.add(c)
}

// alive plans for the leaf of a service of ours, and for nothing else of it. One of the predecessor has no note of its document, so it
// is taken over as it is.
func (p *planner) alive(h holding) {
	path := p.documentOf(h)
	if path == "" || h.stored.version == 0 && !h.adopted {
		return
	}
	c := h.change(Renew)
	if c.document, c.Reason, c.urgency = p.documentChange(h.Key, path, h.stored); c.document == nil {
		return
	}
	s := p.standing(h.Key)
	if h.adopted {
		i := h.Instance
		i.Meta = record{Key: h.Key, function: h.function, alias: h.alias}.meta(stored{})
		c.Kind, c.Reason, c.instance, c.differs = Update, "taken over from the predecessor; "+c.Reason, &i, true
		d := p.entries[h.Key.fold()]
		c.entry = &Defaults{Key: h.Key, Raw: s.entry.mark(p.owner, s.made()), Index: d.Index}
	}
	c.Diff = differences(s, c)
	p.add(c)
}

// change starts a change of what is registered.
func (h holding) change(kind Kind) Change {
	return Change{
		Kind: kind, Name: h.Key.String(), Function: h.function.qualified(h.alias), key: h.Key, by: h.function.Name(),
		instance: &h.Instance, stored: h.stored,
	}
}

// documentOf returns the path of the document that a service of ours has, "" if it has none.
func (p *planner) documentOf(h holding) string {
	if h.alias != "" || h.Datacenter != "" || p.place.prefix == "" {
		return ""
	}
	path, err := h.Service.ParameterPath(p.place.prefix)
	if err != nil {
		return ""
	}
	return path
}

// entryWithout returns what is left of k's service-defaults entry without our part, and whether it is to go; nil if nothing in it is
// ours.
func (p *planner) entryWithout(k Key, s standing) (entry *Defaults, without bool) {
	if s.whose != holdOurs && s.whose != holdLegacy || p.wantedElsewhere(k) {
		return nil, false
	}
	if function, _ := s.entry.arn(); p.wishes[function.Name()].shared {
		return nil, false
	}
	rest, empty := s.entry.unmerge(s.made())
	d := p.entries[k.fold()]
	return &Defaults{Key: k, Raw: rest, Index: d.Index}, empty
}

// wantedElsewhere says whether the service is ours in another datacenter too, or asked for there: config entries are one for all
// datacenters of a federation, and that one stays.
func (p *planner) wantedElsewhere(k Key) bool {
	other := func(o folded) bool { return o.Service == k.fold().Service && o != k.fold() }
	for at, h := range p.held {
		if other(at) && !p.released(h.Key, h.function.Name()) {
			return true
		}
	}
	for _, w := range p.wishes {
		for _, r := range w.records {
			if other(r.Key.fold()) {
				return true
			}
		}
	}
	return false
}
