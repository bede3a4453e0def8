// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Kind is what a change does.
type Kind string

// The kinds of changes.
const (
	Create Kind = "create" // registers a service, or makes the node that carries them
	Update Kind = "update" // repairs or changes what is registered
	Renew  Kind = "renew"  // makes the credential document anew, or asks whether that can be done yet
	Delete Kind = "delete"
)

// Change is one change of a plan. Its exported fields are for people; they hold no secret.
type Change struct {
	Kind     Kind         `json:"kind"`
	Name     string       `json:"name"`               // of the service, or of the document without a service
	Function string       `json:"function,omitempty"` // the ARN that is invoked; "" where none is known
	Reason   string       `json:"reason"`
	Diff     []Difference `json:"diff,omitempty"`

	urgency  urgency
	key      Key
	by       string // the function that asks for it
	realm    Realm  // of a node
	node     *Node  // to be put
	entry    *Defaults
	without  bool // entry is to be deleted
	instance *Instance
	differs  bool   // instance is to be put even if no document is written
	stored   stored // what the instance says of its document today
	document *documentChange
}

// documentChange is what is to be done about a document.
type documentChange struct {
	path   string
	remove bool
	// must: whatever leaf Consul gives is written. Otherwise only one that lives longer than the one in hand.
	must   bool
	inputs string
}

// Difference is one field that a change changes. "" is a field that is not there.
type Difference struct {
	Field  string `json:"field"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// urgency orders a plan (G9): what would fail first comes first, and deletes come after all else (G7).
type urgency int

const (
	urgentNode    urgency = iota // nothing can be registered without it
	urgentLeaf                   // nearly out
	urgentRoots                  // peers may refuse the old leaf soon, or present what the old roots do not vouch for
	urgentCreate                 // somebody waits for it
	urgentRepair                 // it was otherwise than it should be for a while
	urgentRenewal                // it is past 60 % of its life: Consul may have a newer one
	urgentDelete
)

// Plan is what a run would do, most urgent first, and what it has to say.
type Plan struct {
	Changes []Change `json:"changes,omitempty"`
	// More is how many changes an answer to a dry run leaves out, after these; else 0.
	More int `json:"more,omitempty"`
	// Warnings are mistakes of users and conflicts with what others own: nothing was planned about these.
	Warnings []Note `json:"warnings,omitempty"`
	// Failures are what could not be read: nothing was planned about these.
	Failures []Note `json:"failures,omitempty"`
	// Held are changes that are not made, because of the policy or of the cap on deletes.
	Held []Note `json:"held,omitempty"`
	// OverCap says that the plan has more deletes than a run may make. All of them are held.
	OverCap bool `json:"overCap,omitempty"`

	owned int // services that are ours today
}

// Note says something of a service or a function.
type Note struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Empty says whether there is nothing to change.
func (p Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Held) == 0 }

// String returns the plan for people, a line for each change and each field of it.
func (p Plan) String() string {
	var b strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "%-7s %s: %s\n", c.Kind, c.Name, c.Reason)
		for _, d := range c.Diff {
			fmt.Fprintf(&b, "          %s: %s -> %s\n", d.Field, shown(d.Before), shown(d.After))
		}
	}
	if p.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", p.More)
	}
	for _, group := range []struct {
		word  string
		notes []Note
	}{{"held", p.Held}, {"warning", p.Warnings}, {"failure", p.Failures}} {
		for _, n := range group.notes {
			fmt.Fprintf(&b, "%-7s %s: %s\n", group.word, n.Name, n.Text)
		}
	}
	if p.Empty() {
		b.WriteString("nothing to change\n")
	}
	return b.String()
}

func shown(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
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

func (p *planner) warn(name, text string) {
	p.plan.Warnings = append(p.plan.Warnings, Note{name, text})
}
func (p *planner) fail(name, text string) {
	p.plan.Failures = append(p.plan.Failures, Note{name, text})
}

func (p *planner) add(c Change) {
	p.planned[c.key.fold()] = p.planned[c.key.fold()] || c.Kind != Delete
	p.plan.Changes = append(p.plan.Changes, c)
}

// serviceID is what Consul tells instances of a node apart by, in lower case.
type serviceID struct {
	realm     Realm
	namespace string
	id        string
}

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

// id is where an instance with that ID is.
func (k Key) id(id string) serviceID {
	f := Key(k.fold())
	return serviceID{f.realm(), f.Service.Namespace(), strings.ToLower(id)}
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

// claims returns the records that are to be there, one for a service: in all datacenters of a federation it has one service-defaults
// entry, and so one function. Of two functions that ask for the same service (one is called
// "a-b", the other "a" with an alias "b") the one that has it keeps it; else a function comes before an alias.
func (p *planner) claims() []Record {
	claims := make(map[mesh.Service]Record)
	holder := func(r Record) bool { return p.held[r.Key.fold()].function == r.Function }
	for _, name := range slices.Sorted(maps.Keys(p.wishes)) {
		for _, r := range p.wishes[name].records {
			folded := r.Key.fold().Service
			other, taken := claims[folded]
			switch {
			case !taken:
				claims[folded] = r
			case !holder(other) && (holder(r) || other.Alias != "" && r.Alias == ""):
				claims[folded] = r
				p.warn(other.Function.Name(), fmt.Sprintf("service %v is also asked for by function %s, which gets it", r.Key, r.Function.Name()))
			default:
				p.warn(r.Function.Name(), fmt.Sprintf("service %v is also asked for by function %s, which gets it", r.Key, other.Function.Name()))
			}
		}
	}
	records := make([]Record, 0, len(claims))
	for _, r := range claims {
		k := r.Key
		h, ok := p.held[k.fold()]
		if ok && !h.function.IsZero() && h.function != r.Function && !p.released(k, h.function.Name()) {
			p.warn(r.Function.Name(), fmt.Sprintf("service %v is still that of function %s", k, h.function.Name()))
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

// conflict says what stands in the way of r; "" if nothing does. See the table of calculate.
func (p *planner) conflict(r Record, held bool, e entry, whose hold) string {
	if !held {
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
		if whose == holdLegacy {
			return "its service-defaults entry has a Lambda extension that this registrator did not put there"
		}
	}
	switch {
	case whose == holdForeign:
		return "its service-defaults entry invokes a function of somebody else, or was made by somebody else's registrator"
	case whose == holdPlain && e.protocol != "" && e.protocol != protocolHTTP:
		return fmt.Sprintf(`its service-defaults entry, which is somebody's, has protocol %q: want "" or "http"`, e.protocol)
	case whose == holdPlain && p.elsewhere(r.Key) != "":
		return "a service of that name is registered on another node, " + p.elsewhere(r.Key) + ", and its service-defaults entry is somebody's"
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

// movedNode says whether the service is ours on a node of another name, as all are when the registrator's node was renamed. That is
// a failure: nobody keeps those leaves alive.
func (p *planner) movedNode(k Key) bool {
	for _, n := range p.namesakes[k.fold()] {
		if n.Meta[metaOwner] == p.owner.String() {
			p.astray[n.Node]++
			return true
		}
	}
	return false
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

// keep plans for a service of ours that is in scope and that no function is known to ask for, or that stands in conflict: a delete
// where there is a reason for one, else that its leaf stays alive.
func (p *planner) keep(h holding) {
	k, name := h.Key, h.function.Name()
	switch {
	case p.planned[k.fold()]:
		return
	case h.function.IsZero():
		p.warn(k.String(), "its meta does not name its function: it is kept as it is")
	case p.released(k, name) && !p.waits(name, h.alias):
		c := h.change(Delete)
		c.urgency, c.Reason = urgentDelete, p.wishes[name].because(k, h.alias)
		e, _, _ := p.hold(k)
		c.entry, c.without = p.entryWithout(k, h.adopted)
		if path := p.documentOf(h); path != "" {
			c.document = &documentChange{path: path, remove: true}
		}
		c.Diff = differences(state{e, h.Instance, h.stored}, c)
		p.add(c)
		return
	}
	p.alive(h)
}

// change starts a change of what is registered.
func (h holding) change(kind Kind) Change {
	return Change{
		Kind: kind, Name: h.Key.String(), Function: h.function.Qualified(h.alias), key: h.Key, by: h.function.Name(),
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
	e, whose, _ := p.hold(h.Key)
	if h.adopted {
		i := h.Instance
		i.Meta = Record{Key: h.Key, Function: h.function, Alias: h.alias}.meta(stored{})
		c.Kind, c.Reason, c.instance, c.differs = Update, "taken over from the predecessor; "+c.Reason, &i, true
		d := p.entries[h.Key.fold()]
		c.entry = &Defaults{Key: h.Key, Raw: e.mark(p.owner, e.made(whose, true)), Index: d.Index}
	}
	c.Diff = differences(state{e, h.Instance, h.stored}, c)
	p.add(c)
}

// waits says whether the service that a function or its alias has moved to stands in conflict: then the old one stays.
func (p *planner) waits(function, alias string) bool {
	for _, r := range p.wishes[function].records {
		if _, held := p.held[r.Key.fold()]; r.Alias == alias && !held && !p.planned[r.Key.fold()] {
			return true
		}
	}
	return false
}

// because says why a function whose tags were read does not ask for k, where a service for that alias is.
func (w wish) because(k Key, alias string) string {
	if len(w.records) == 0 {
		return w.why
	}
	for _, r := range w.records {
		if r.Alias == alias {
			return fmt.Sprintf("it moved from %v to %v", k, r.Key)
		}
	}
	return fmt.Sprintf("the tag %s of its function does not name %s any more", TagAliases, alias)
}

// entryWithout returns what is left of a service-defaults entry without our part, and whether it is to go; nil if nothing in it is
// ours.
func (p *planner) entryWithout(k Key, adopted bool) (*Defaults, bool) {
	e, whose, _ := p.hold(k)
	if whose != holdOurs && whose != holdLegacy || p.wantedElsewhere(k) {
		return nil, false
	}
	if function, _ := e.arn(); p.wishes[function.Name()].shared {
		return nil, false
	}
	rest, empty := e.unmerge(e.made(whose, adopted))
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
	e, _, _ := p.hold(k)
	c.entry, c.without = p.entryWithout(k, false)
	c.Diff = differences(state{entry: e}, c)
	p.add(c)
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

// What is said of our node, so that Consul's own anti-entropy and external monitors take it for what it is.
var nodeMeta = map[string]string{"external-node": "true", "external-probe": "true"}

// nodeChanges plans the node of each realm in which something is registered. A node that exists, is not marked as an external one
// and carries nothing of ours is a machine of somebody's: nothing is registered there.
func (p *planner) nodeChanges() {
	var changes []Change
	for realm, n := range p.nodes {
		in := func(c Change) bool { return c.node == nil && c.key.realm() == realm }
		if n.is(nodeMeta) || !slices.ContainsFunc(p.plan.Changes, in) {
			continue
		}
		if n.Index != 0 && !p.holdsIn(realm) {
			p.fail(p.node, "the node is in "+realm.String()+` already, without the meta external-node "true": want a name that no machine has`)
			for _, c := range p.plan.Changes {
				if in(c) {
					p.planned[c.key.fold()] = false
				}
			}
			p.plan.Changes = slices.DeleteFunc(p.plan.Changes, in)
			continue
		}
		c := Change{Kind: Update, Name: "node " + p.node, Reason: "its meta differ in " + realm.String(), urgency: urgentNode, realm: realm}
		if n.Index == 0 {
			c.Kind, c.Reason = Create, "there is no such node in "+realm.String()
		}
		for _, field := range slices.Sorted(maps.Keys(nodeMeta)) {
			if n.Meta[field] != nodeMeta[field] {
				c.Diff = append(c.Diff, Difference{"meta." + field, n.Meta[field], nodeMeta[field]})
			}
		}
		wanted := n.with(p.node, nodeMeta)
		c.node = &wanted
		changes = append(changes, c)
	}
	p.plan.Changes = append(p.plan.Changes, changes...)
}

func (p *planner) holdsIn(realm Realm) bool {
	for _, h := range p.held {
		if h.realm() == realm {
			return true
		}
	}
	return false
}

// is says whether the node exists and has these pairs in its meta.
func (n Node) is(meta map[string]string) bool {
	for field, value := range meta {
		if n.Meta[field] != value {
			return false
		}
	}
	return n.Index != 0
}

// with returns the node with these pairs added to its meta.
func (n Node) with(name string, meta map[string]string) Node {
	all := maps.Clone(n.Meta)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, meta)
	return Node{Name: name, Meta: all, Index: n.Index}
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

// state is what a change starts from.
type state struct {
	entry    entry
	instance Instance
	stored   stored
}

// differences shows what c changes.
func differences(s state, c Change) []Difference {
	before, after := make(map[string]string), make(map[string]string)
	if c.entry != nil {
		s.entry.show(before)
		if e, err := readEntry(c.entry.Raw); err == nil && !c.without {
			e.show(after)
		}
	}
	if c.instance != nil {
		s.instance.show(before)
		if c.Kind != Delete {
			c.instance.show(after)
		}
	}
	if c.document != nil {
		if s.stored.version != 0 {
			before["document"] = fmt.Sprintf("version %d, leaf until %s", s.stored.version, s.stored.notAfter.UTC().Format(time.RFC3339))
		}
		switch {
		case c.document.must:
			after["document"] = "a new version"
		case !c.document.remove:
			after["document"] = "a new version, if Consul has a newer leaf"
		}
	}
	fields := maps.Clone(before)
	maps.Copy(fields, after)
	var found []Difference
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if before[field] != after[field] {
			found = append(found, Difference{field, before[field], after[field]})
		}
	}
	return found
}

func (e entry) show(into map[string]string) {
	const at = "service-defaults."
	into[at+"protocol"] = e.protocol
	into[at+"owner"], into[at+"made"] = e.owner(), e.meta.text(metaMade)
	for field, value := range e.arguments {
		if text := e.arguments.text(field); text != "" {
			into[at+field] = text
		} else {
			into[at+field] = string(value)
		}
	}
}

func (i Instance) show(into map[string]string) {
	into["catalog.tags"] = strings.Join(i.Tags, ",")
	for field, value := range i.Meta {
		into["catalog."+field] = value
	}
}
