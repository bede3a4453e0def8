// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"cmp"
	"fmt"
	"slices"
)

// calculate compares what is asked for with what is there. It is a pure function: the same observation gives the same plan, and a
// plan that was carried out in full leaves nothing to plan.
//
// For a service that a function asks for:
//
//	on our node          its service-defaults       elsewhere   plan
//	nothing              none, ours                 no          create
//	nothing              plain, "" or http          no          create, merged into it
//	nothing              plain, other; any other    -           conflict: a warning, nothing is done
//	nothing              any                        yes         conflict
//	ours                 none, ours, legacy         -           repair what differs, or nothing
//	ours                 plain, "" or http          no          repair: merged again
//	ours                 plain, other; foreign      -           conflict; its leaf is kept alive
//	the predecessor's    ours, legacy               -           adopt: repair what differs
//	the predecessor's    any other                  -           conflict
//	somebody's           any                        -           conflict
//
// "Elsewhere" is another node in any datacenter of the federation, as the service-defaults are one for all. If what is there is ours,
// the node has been renamed: a failure, and nothing is done.
//
// For a service of ours that no function asks for, seen with what is known of its function:
//
//	not looked at, or not read, or its tags are wrong           keep
//	listed only                                                 keep: a listing may lag
//	read by itself: no such function, disabled, alias dropped,
//	moved to another datacenter, namespace or partition         delete, last
//
// The leaf of every service of ours is kept alive, whatever is known of its function.
func calculate(o *observation) Plan {
	p := planner{
		observation: o, held: o.holdings(), wishes: o.wishes(),
		ids: make(map[serviceID]Key), planned: make(map[folded]bool), astray: make(map[string]int),
	}
	p.plan.owned = len(p.held)
	for k, instances := range o.instances {
		for _, i := range instances {
			p.ids[Key(k).id(i.ID)] = i.Key
		}
	}
	p.notes()
	for _, r := range p.claims() {
		p.upsert(r)
	}
	p.nodeChanges()
	for _, h := range p.held {
		if p.inScope(h.function.Name()) || h.function.IsZero() && p.scope.full() {
			p.keep(h)
		}
	}
	for k, function := range p.remnants(p.held) {
		p.remnant(k, function)
	}
	for path, s := range p.strays(p.held, p.wishes) {
		p.stray(path, s)
	}
	p.finish()
	return p.plan
}

// planner makes one plan.
type planner struct {
	*observation
	held    map[folded]holding
	wishes  map[string]wish
	ids     map[serviceID]Key
	planned map[folded]bool
	astray  map[string]int // services of ours on other nodes that a function asks for on this one, by node
	plan    Plan
}

// notes says what could not be read, and whose tags are wrong.
func (p *planner) notes() {
	p.plan.Failures = append(p.plan.Failures, p.failures...)
	for name, s := range p.functions {
		if s.err != nil {
			p.fail(name, "it could not be read: "+s.err.Error())
		}
	}
	for name, w := range p.wishes {
		if w.err != nil {
			p.warn(name, w.err.Error()+"; what it has registered stays as it is")
		}
	}
}

func (p *planner) add(c Change) {
	p.planned[c.key.fold()] = p.planned[c.key.fold()] || c.Kind != Delete
	p.plan.Changes = append(p.plan.Changes, c)
}

func (p *planner) warn(name, text string) {
	p.plan.Warnings = append(p.plan.Warnings, Note{name, text})
}

func (p *planner) fail(name, text string) {
	p.plan.Failures = append(p.plan.Failures, Note{name, text})
}

// finish takes out what may not be done, and orders the plan.
func (p *planner) finish() {
	for node, services := range p.astray {
		p.fail("node "+node, fmt.Sprintf("%d services of this registrator are on it, whose leaves nobody renews, and it is to keep node %s: "+
			"set NODE_NAME back to %s, or take that node out of Consul's catalog so that all is registered anew", services, p.node, node))
	}
	losing, limit := p.losing()
	why := ""
	switch p.plan.OverCap = losing > limit && p.policy != UpsertOnly; {
	case p.policy == UpsertOnly:
		why = "the policy is upsert-only: "
	case len(p.unread) > 0:
		why = "not all of Consul could be read: "
	case p.plan.OverCap:
		why = fmt.Sprintf("%d functions would lose what they have, at most %d may in one run and the events around it (CONSUL_LAMBDA_MAX_DELETES): ",
			losing, limit)
	}
	if why != "" {
		p.plan.Changes = slices.DeleteFunc(p.plan.Changes, func(c Change) bool {
			if c.Kind == Delete {
				p.plan.Held = append(p.plan.Held, Note{c.Name, why + c.Reason})
			}
			return c.Kind == Delete
		})
		for _, h := range p.held {
			if !p.planned[h.Key.fold()] && p.released(h.Key, h.function.Name()) {
				p.alive(h) // what is held may be a mistake
			}
		}
	}
	slices.SortFunc(p.plan.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.urgency, b.urgency), a.stored.notAfter.Compare(b.stored.notAfter), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Reason, b.Reason))
	})
	for _, notes := range [][]Note{p.plan.Warnings, p.plan.Failures, p.plan.Held} {
		slices.SortFunc(notes, func(a, b Note) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Text, b.Text)) })
	}
}
