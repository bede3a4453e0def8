// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// remnants finds the service-defaults that are marked as ours and belong to no service of ours: what a run left that did not get to
// its end. While some services cannot be read nobody can tell.
func (o *observation) remnants(held map[folded]holding) map[Key]ARN {
	if len(o.unread) > 0 {
		return nil
	}
	found, heldAnywhere := make(map[Key]ARN), make(map[mesh.Service]bool)
	for k := range held {
		heldAnywhere[k.Service] = true
	}
	for k, d := range o.entries {
		if heldAnywhere[k.Service] {
			continue
		}
		if e, whose, _ := o.hold(d.Key); whose == holdOurs {
			if function, _ := e.arn(); !function.IsZero() {
				found[d.Key] = function
			}
		}
	}
	return found
}

// remnant plans for a service-defaults entry with our mark where no service of ours is. If a function asks for that service the
// entry is part of that; else the run that was to take it out did not get there.
func (p *planner) remnant(k Key, function ARN) {
	if p.planned[k.fold()] || !p.released(k, function.Name()) || p.wishes[function.Name()].shared {
		return
	}
	c := Change{
		Kind: Delete, Name: k.String(), Function: function.String(), urgency: urgentDelete, key: k, by: function.Name(),
		Reason: "its service-defaults were left behind: " + p.wishes[function.Name()].because(k, ""),
	}
	s := p.standing(k)
	c.entry, c.without = p.entryWithout(k, s)
	c.Diff = differences(s, c)
	p.add(c)
}

// strays finds the documents for which there is no service, by path, those that no registrator wrote included. It is asked of a whole
// look at the store, and of all of Consul, only.
func (o *observation) strays(held map[folded]holding, wishes map[string]wish) map[string]Stored {
	if !o.documents.whole || !o.documents.orphans || !o.scope.full() || len(o.unread) > 0 {
		return nil
	}
	used := make(map[string]bool)
	for _, h := range held {
		if path, err := h.Service.ParameterPath(o.place.prefix); err == nil && h.alias == "" {
			used[path] = true
		}
	}
	for _, w := range wishes {
		for _, r := range w.records {
			used[r.document] = true
		}
	}
	found := make(map[string]Stored)
	for path, s := range o.documents.seen {
		parts := strings.Split(strings.TrimPrefix(path, o.place.prefix+"/"), "/")
		if used[path] || len(parts) != 3 || !slices.Contains(o.place.partitions, unlessDefault(parts[0])) || !functionPattern.MatchString(parts[2]) {
			continue
		}
		found[path] = s
	}
	return found
}

// stray plans for a document that no service has.
func (p *planner) stray(path string, s Stored) {
	name := strayName(path)
	w, known := p.wishes[name]
	switch {
	case known && (w.err != nil || len(w.records) > 0 || w.moved):
		return // it may have a use that is not seen from here
	case !s.Ours:
		p.warn(path, "this document belongs to no registered service, and no registrator is known to have written it: it is kept")
	case known && p.functions[name].confirmed:
		p.plan.Changes = append(p.plan.Changes, Change{
			Kind: Delete, Name: path, Reason: "the document was left behind: " + w.why, urgency: urgentDelete, by: name,
			document: &documentChange{path: path, remove: true},
			Diff:     []Difference{{Field: "document", Before: fmt.Sprintf("version %d", s.Version)}},
		})
	}
}

// strayName is the function that a stray document was for.
func strayName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
