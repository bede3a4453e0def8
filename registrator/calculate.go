// SPDX-License-Identifier: MPL-2.0

package registrator

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
	p := newPlanner(o)
	p.notes()
	for _, r := range p.claims() {
		p.upsert(r)
	}
	p.nodeChanges() // now: what follows needs no node that is not there, and keeps alive what was refused for want of one
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
	p.renamedNodes()
	p.holdDeletes()
	p.plan.sort()
	return p.plan
}

// planner makes one plan.
type planner struct {
	*observation
	held    map[folded]holding
	wishes  map[string]wish
	ids     map[serviceID]Key
	planned map[folded]bool // services with a change that is no delete
	astray  map[string]int  // services of ours on other nodes that a function asks for on this one, by node
	plan    Plan
}

func newPlanner(o *observation) *planner {
	p := &planner{
		observation: o, held: o.holdings(), wishes: o.wishes(),
		ids: make(map[serviceID]Key), planned: make(map[folded]bool), astray: make(map[string]int),
	}
	p.plan.owned = len(p.held)
	for k, instances := range o.instances {
		for _, i := range instances {
			p.ids[Key(k).id(i.ID)] = i.Key
		}
	}
	return p
}

// standing is what there is of a service: on our node, and in service-defaults.
type standing struct {
	holding          // as it is registered; the zero value unless held
	held       bool  // it is ours
	entry      entry // its service-defaults; one with nothing in it if there are none
	whose      hold  // these are
	unreadable error // why they cannot be read: they are somebody's, as far as can be seen
}

// standing looks k up.
func (p *planner) standing(k Key) standing {
	h, held := p.held[k.fold()]
	e, whose, err := p.hold(k)
	return standing{h, held, e, whose, err}
}

// made says how much of the service-defaults is to be called ours.
func (s standing) made() string { return s.entry.made(s.whose, s.adopted) }

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
