// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/consul-lambda/consul-lambda/mesh"
)

const (
	// lookEvery is the pause between two whole looks at the store, and the age at which the list of datacenters is read anew.
	lookEvery = 6 * time.Hour

	// doubt is how long a listing is not believed about a function that was read by itself: the tagging API promises no time by which
	// a change shows, and must not undo what an event's run has just done.
	doubt = 15 * time.Minute

	// confirmBudget is how many functions are read to confirm what a listing does not show, where the listing is known to be a part
	// only: without the tagging API that is most of what is registered, and each run takes its turn at some.
	confirmBudget = 50
)

// memory is what a process keeps from run to run. All of it may be lost: it saves calls, and decides nothing. The zero value
// remembers nothing.
type memory struct {
	datacenters   []string
	datacentersAt time.Time
	peersDenied   map[string]time.Time // partitions whose peerings the token may not see, and when that was found
	from          string               // where the listing of functions goes on
	token         string               // where the rotation through the store goes on
	pages         map[string]Stored    // what the rotation has seen so far
	pagesFrom     time.Time            // when it began
	looked        time.Time            // the last whole look
	lookAgain     bool                 // whatever the heartbeat says of the last look
	recent        map[string]time.Time // functions that were read by themselves
	confirmed     string               // the last function in turn that was confirmed
	taken         map[string]time.Time // functions that lost something, and when: for the cap (G7)
	unsettled     map[string]int64     // by path: versions of documents that were stored without their commit in the catalog
}

// observe reads what a plan for scope is made of. A datacenter, partition, page or listing that cannot be read is left out in whole and
// named as a failure; the rest goes on, as leaves have to be renewed whatever else is the matter. Without the datacenters, the roots,
// or any realm, there is nothing to go on with: the error wraps ErrObserve, or ErrOwner, and what was read is not used (G2). It
// returns what the process is to remember if the plan is carried out.
func (r *Registrator) observe(ctx context.Context, scope Scope) (*observation, memory, error) {
	mem := r.memory
	mem.recent, mem.peersDenied = copied(mem.recent), copied(mem.peersDenied)
	mem.unsettled, mem.taken = copied(mem.unsettled), copied(mem.taken)
	o := &observation{
		at: r.now(), owner: r.cfg.Owner, node: r.cfg.Node, scope: scope, policy: r.cfg.Policy, maxDeletes: r.cfg.MaxDeletes,
		slack:     r.cfg.Schedule + r.cfg.Refresh,
		functions: make(map[string]sight), nodes: make(map[Realm]Node), instances: make(map[folded][]Instance),
		entries: make(map[folded]Defaults), namesakes: make(map[folded][]Namesake), unasked: make(map[folded]error),
		peers: make(map[string][]mesh.DocumentPeer), unread: make(map[Realm]error), peerless: make(map[string]bool), asked: r.askedBefore(),
	}
	o.unsettled, o.taken = maps.Clone(mem.unsettled), make(map[string]bool)
	for name, at := range mem.taken {
		if age := o.at.Sub(at); age >= 0 && age < r.cfg.Schedule {
			o.taken[name] = true
		} else {
			delete(mem.taken, name)
		}
	}
	v := &observer{Registrator: r, observation: o, mem: &mem}
	reading, cancel := half(ctx)
	defer cancel()
	for _, step := range []func(context.Context) error{v.datacenters, v.listings, v.store, v.confirm, v.names} {
		if err := firstError(step(reading), ctx.Err()); err != nil {
			if !errors.Is(err, ErrOwner) {
				err = fmt.Errorf("%w: %w", ErrObserve, err)
			}
			return nil, memory{}, err
		}
	}
	return o, mem, nil
}

// copied returns a copy that can be written to.
func copied[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m))
	maps.Copy(c, m)
	return c
}

// half bounds reading to half of the run's time: what one hanging datacenter has not answered by then is left out, and there is time
// to renew what is known (G2, G8).
func half(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// observer fills one observation.
type observer struct {
	*Registrator
	*observation
	mem      *memory
	mu       sync.Mutex // what the goroutines of a step write
	complete bool       // the listing of functions was whole
	blind    bool       // it failed
}

// datacenters places the tags. The list is kept for hours, for it changes about never.
func (v *observer) datacenters(ctx context.Context) error {
	if age := v.at.Sub(v.mem.datacentersAt); v.mem.datacenters == nil || age < 0 || age >= lookEvery {
		found, err := v.cfg.Consul.Datacenters(ctx)
		if err != nil {
			return fmt.Errorf("listing datacenters: %w", err)
		}
		if len(found) == 0 {
			return errors.New("listing datacenters: Consul names none")
		}
		v.mem.datacenters, v.mem.datacentersAt = found, v.at
	}
	v.place = placement{
		datacenter: v.cfg.Datacenter, datacenters: v.mem.datacenters, enterprise: v.cfg.Enterprise,
		partitions: v.cfg.Partitions, prefix: v.cfg.DataPrefix,
	}
	if d := v.cfg.Datacenter; d != "" && !slices.Contains(v.mem.datacenters, d) {
		return fmt.Errorf("datacenter %q: want one of Consul's: %s", d, partitionList(v.mem.datacenters))
	}
	return nil
}

// realms are all parts of Consul in which services may be ours, those of the server's own datacenter first.
func (p placement) realms() []Realm {
	datacenters := p.datacenters
	if p.datacenter != "" {
		datacenters = []string{p.datacenter}
	}
	var realms []Realm
	for _, d := range datacenters {
		for _, partition := range p.partitions {
			realms = append(realms, Realm{Datacenter: p.key(d), Partition: partition})
		}
	}
	return realms
}

// listings reads AWS's and Consul's side at the same time.
func (v *observer) listings(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Concurrency)
	for _, realm := range v.place.realms() {
		g.Go(func() error { v.services(ctx, realm); return nil })
		g.Go(func() error { v.defaults(ctx, realm); return nil })
	}
	if v.cfg.DataPrefix != "" {
		g.Go(func() error { return v.trust(ctx) })
		for _, partition := range v.cfg.Partitions {
			g.Go(func() error { v.peerings(ctx, partition); return nil })
		}
	}
	if v.scope.full() {
		g.Go(func() error { return v.list(ctx) })
	} else {
		for _, name := range v.scope.Functions {
			g.Go(func() error { return v.get(ctx, name) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return v.leaveOut()
}

// leaveOut forgets what was read of a realm that was not read in whole.
func (v *observer) leaveOut() error {
	read := false
	for _, realm := range v.place.realms() {
		read = read || v.unread[realm] == nil
	}
	if !read {
		return v.unread[v.place.realms()[0]]
	}
	for realm, err := range v.unread {
		v.failures = append(v.failures, Note{realm.String(), "nothing was done there, and nothing deleted anywhere: " + err.Error()})
		delete(v.nodes, realm)
	}
	maps.DeleteFunc(v.instances, func(k folded, _ []Instance) bool { return v.unread[Key(k).realm()] != nil })
	maps.DeleteFunc(v.entries, func(k folded, _ Defaults) bool { return v.unread[Key(k).realm()] != nil })
	return nil
}

func (v *observer) services(ctx context.Context, realm Realm) {
	node, instances, err := v.cfg.Consul.Services(ctx, realm, v.cfg.Node)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.unread[realm] = fmt.Errorf("listing the services of node %s in %v: %w", v.cfg.Node, realm, err)
		return
	}
	if local := v.place.local(); realm.Datacenter == "" && node.Datacenter != "" && node.Datacenter != local {
		v.unread[realm] = fmt.Errorf("the server is of datacenter %s, and %s was taken for its own: allow the token agent:read", node.Datacenter, local)
		return
	}
	v.nodes[realm] = node
	for _, i := range instances {
		i.Datacenter = realm.Datacenter
		v.instances[i.Key.fold()] = append(v.instances[i.Key.fold()], i)
	}
}

func (v *observer) defaults(ctx context.Context, realm Realm) {
	entries, err := v.cfg.Consul.Defaults(ctx, realm)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.unread[realm] = fmt.Errorf("listing service-defaults in %v: %w", realm, err)
		return
	}
	for _, d := range entries {
		d.Datacenter = realm.Datacenter
		v.entries[d.Key.fold()] = d
	}
}

func (v *observer) trust(ctx context.Context) error {
	roots, err := v.cfg.Consul.Roots(ctx)
	if err != nil {
		return fmt.Errorf("listing root certificates: %w", err)
	}
	if len(roots.PEM) == 0 || roots.TrustDomain == "" {
		return errors.New("listing root certificates: Consul gave none, or no trust domain: is its service mesh enabled?")
	}
	v.roots = roots
	return nil
}

func (v *observer) peerings(ctx context.Context, partition string) {
	v.mu.Lock()
	denied, found := v.mem.peersDenied[partition]
	v.mu.Unlock()
	if age := v.at.Sub(denied); found && age >= 0 && age < lookEvery {
		return
	}
	peers, err := v.cfg.Consul.Peers(ctx, partition)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case errors.Is(err, ErrDenied):
		// The predecessor's token has no such rule, and needs none to go on as it did: without peers. Consul takes 10 s and more for
		// the refusal, so it is not asked in every run.
		v.mem.peersDenied[partition] = v.at
		v.log.WarnContext(ctx, "peerings are not known: documents name no peers", "partition", partition, "error", err.Error())
	case err != nil:
		v.peerless[partition] = true
		v.failures = append(v.failures, Note{Realm{Partition: partition}.String(), "listing peerings: " + err.Error()})
	default:
		delete(v.mem.peersDenied, partition)
		v.peers[partition] = sortedPeers(peers)
	}
}

func (v *observer) list(ctx context.Context) error {
	listing, err := v.cfg.Functions.List(ctx, v.mem.from)
	v.mu.Lock()
	defer v.mu.Unlock()
	if errors.Is(err, ErrOwner) {
		return err
	}
	if err != nil {
		v.blind = true
		v.failures = append(v.failures, Note{"functions", "listing functions: " + err.Error()})
		return nil
	}
	for _, f := range listing.Functions {
		if f.ARN.Owner() != v.owner {
			return v.notOurs(f)
		}
		v.functions[f.ARN.Name()] = sight{function: f}
	}
	v.complete = v.mem.from == "" && listing.Next == ""
	v.mem.from = listing.Next
	return nil
}

func (v *observer) notOurs(f Function) error {
	return fmt.Errorf("%w: AWS shows %v: want functions of %v", ErrOwner, f.ARN, v.owner)
}

// get reads one function by itself. That it cannot be read is known of that function only (G10).
func (v *observer) get(ctx context.Context, name string) error {
	f, err := v.cfg.Functions.Get(ctx, name)
	s := sight{function: f, confirmed: true}
	switch {
	case errors.Is(err, ErrNoFunction):
		s = sight{confirmed: true, gone: true}
	case err != nil:
		s = sight{err: err}
	case f.ARN.Owner() != v.owner:
		return v.notOurs(f)
	case f.ARN.Name() != name:
		s = sight{err: fmt.Errorf("AWS answered with function %s", f.ARN.Name())}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.functions[name] = s
	if s.confirmed {
		v.mem.recent[name] = v.at
	}
	return nil
}

// firstError prefers what a call says of itself: a deadline does not tell what took the time.
func firstError(err, fallback error) error {
	if err != nil {
		return err
	}
	return fallback
}

// store looks at a page of what is stored, or at all of it when that is due (G4). An event's run does not look.
func (v *observer) store(ctx context.Context) error {
	if v.cfg.DataPrefix == "" || !v.scope.full() {
		return nil
	}
	looked := v.mem.looked
	for _, n := range v.nodes {
		if h := readHeartbeat(n, v.owner); h.Looked.After(looked) {
			looked = h.Looked
		}
	}
	age := v.at.Sub(looked)
	v.documents.orphans = v.mem.lookAgain || age < 0 || age >= lookEvery
	v.mem.looked = looked
	if v.documents.orphans {
		v.mem.token = ""
	}
	for first := true; first || v.documents.orphans && v.mem.token != ""; first = false {
		if v.mem.token == "" {
			v.mem.pages, v.mem.pagesFrom = make(map[string]Stored), v.at
		} else if first {
			v.mem.pages = maps.Clone(v.mem.pages)
		}
		page, next, err := v.cfg.Documents.Page(ctx, v.mem.token)
		if err != nil {
			v.mem.token, v.documents = "", look{} // a token that is not valid any more must not fail every run
			v.failures = append(v.failures, Note{"store", "looking at the store: " + err.Error()})
			return nil
		}
		v.documents.seen, v.documents.from = make(map[string]Stored, len(page)), v.at
		for _, s := range page {
			v.documents.seen[s.Path], v.mem.pages[s.Path] = s, s
		}
		v.mem.token = next
	}
	if v.mem.token == "" {
		v.documents.seen, v.documents.from, v.documents.whole = v.mem.pages, v.mem.pagesFrom, true
	}
	if v.documents.orphans {
		v.mem.looked, v.mem.lookAgain = v.at, false
	}
	return nil
}

// confirm reads by themselves the functions of which something might be deleted, and those that were so read a moment ago.
func (v *observer) confirm(ctx context.Context) error {
	held, wishes := v.holdings(), v.wishes()
	certain, turn := make(map[string]bool), make(map[string]bool)
	ask := func(name string, wanted bool) {
		s, known := v.functions[name]
		switch {
		case !functionPattern.MatchString(name) || !v.inScope(name) || s.confirmed || s.err != nil:
		case !known && v.blind: // AWS cannot be asked; the time is for what is held
		case !known && !v.complete:
			turn[name] = true
		case !known || !wanted && wishes[name].err == nil:
			certain[name] = true
		}
	}
	for _, h := range held {
		ask(h.function.Name(), wishes[h.function.Name()].wants(h.Key))
	}
	for k, function := range v.remnants(held) {
		ask(function.Name(), wishes[function.Name()].wants(k))
	}
	for path, s := range v.strays(held, wishes) {
		if s.Ours {
			ask(strayName(path), len(wishes[strayName(path)].records) > 0)
		}
	}
	for name, at := range v.mem.recent {
		if age := v.at.Sub(at); age < 0 || age >= doubt {
			delete(v.mem.recent, name)
		} else if s, known := v.functions[name]; known && !s.confirmed && s.err == nil {
			certain[name] = true
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Concurrency)
	for _, name := range slices.Sorted(maps.Keys(certain)) {
		g.Go(func() error { return v.reread(ctx, name) })
	}
	for _, name := range v.inTurn(slices.Sorted(maps.Keys(turn))) {
		g.Go(func() error { return v.reread(ctx, name) })
	}
	return g.Wait()
}

// reread gets a function without making its next run do so again: only an event's function is in doubt.
func (v *observer) reread(ctx context.Context, name string) error {
	v.mu.Lock()
	at, recent := v.mem.recent[name]
	v.mu.Unlock()
	if err := v.get(ctx, name); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if w, s := v.place.wish(v.functions[name].function), v.functions[name]; recent {
		v.mem.recent[name] = at
	} else if !s.gone && w.why == "" {
		delete(v.mem.recent, name)
	}
	return nil
}

// inTurn takes as many names as the budget allows, from where the last run stopped.
func (v *observer) inTurn(names []string) []string {
	if len(names) <= confirmBudget {
		return names
	}
	start, _ := slices.BinarySearch(names, v.mem.confirmed+"\x00")
	names = slices.Concat(names[start:], names[:start])[:confirmBudget]
	v.mem.confirmed = names[len(names)-1]
	return names
}

// names asks, of what may have to be created or merged, whether somebody else has the name.
func (v *observer) names(ctx context.Context) error {
	held := v.holdings()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.cfg.Concurrency)
	for _, w := range v.wishes() {
		for _, r := range w.records {
			_, ours := held[r.Key.fold()]
			_, whose, _ := v.hold(r.Key)
			if v.unread[r.realm()] == nil && (whose == holdPlain || !ours && len(v.instances[r.Key.fold()]) == 0) {
				g.Go(func() error { v.name(ctx, r.Key); return nil })
			}
		}
	}
	return g.Wait()
}

// name asks all of Consul's datacenters, those that are not kept too: a service's service-defaults are one for the federation. In
// those, our node's name may be a machine's.
func (v *observer) name(ctx context.Context, k Key) {
	var taken []Namesake
	for _, datacenter := range v.place.datacenters {
		there, node := k.in(v.place.key(datacenter)), v.cfg.Node
		if v.place.datacenter != "" && v.place.datacenter != datacenter {
			node = ""
		}
		err := v.unread[there.realm()]
		var found []Namesake
		if err == nil {
			found, err = v.cfg.Consul.Elsewhere(ctx, there, node)
		}
		if err != nil {
			v.mu.Lock()
			v.unasked[k.fold()] = err
			v.mu.Unlock()
			return
		}
		for _, n := range found {
			// One of ours in a datacenter that is not kept here: another registrator keeps it there, for the same function.
			if node != "" || n.Meta[metaOwner] != v.owner.String() {
				n.datacenter = datacenter
				taken = append(taken, n)
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.namesakes[k.fold()] = taken
}
