// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

var (
	testOwner  = Owner{Partition: "aws", Region: "us-east-1", Account: "123456789012"}
	otherOwner = Owner{Partition: "aws", Region: "us-east-1", Account: "210987654321"}
)

const (
	testPrefix = "/consul/lambda"
	testNode   = "lambdas"
)

var errInjected = errors.New("injected")

// world is what the registrators of a test see: real stores with the semantics of the ports, in memory, and a wall clock that the
// test moves.
type world struct {
	testing.TB
	ca  certtest.CA
	ttl time.Duration // of leaves

	mu    sync.Mutex
	now   time.Time
	calls map[string]int
	log   []string
	// fault says whether a call fails; before it has an effect, or after.
	fault func(op, detail string) (before, after error)

	index     uint64
	dcs       []string
	nodes     map[string]Node
	instances map[string]Instance // by realm, node, namespace and ID
	entries   map[folded]Defaults
	peers     []mesh.DocumentPeer
	leaves    map[mesh.Service]cachedLeaf
	badLeaf   func(Leaf) Leaf
}

type cachedLeaf struct {
	Leaf
	generation uint64
}

// account is one AWS account: its functions, as they are and as the listing shows them, and its store.
type account struct {
	*world
	owner     Owner
	functions map[string]map[string]string // by name: tags
	stale     map[string]map[string]string // nil: the listing shows what is
	pageSize  int                          // 0: one page holds all
	next      string                       // what List returns as Next
	documents map[string]storedDocument
}

type storedDocument struct {
	version int64
	ours    bool
	raw     []byte
}

func newWorld(t testing.TB, leafTTL time.Duration) *world {
	t.Helper()
	if leafTTL == 0 {
		leafTTL = 72 * time.Hour
	}
	return &world{
		TB: t, ca: certtest.NewCA(t), ttl: leafTTL, now: time.Now(), calls: make(map[string]int), dcs: []string{"dc1"},
		nodes: make(map[string]Node), instances: make(map[string]Instance), entries: make(map[folded]Defaults),
		leaves: make(map[mesh.Service]cachedLeaf),
	}
}

func newAccount(w *world, owner Owner) *account {
	return &account{world: w, owner: owner, functions: make(map[string]map[string]string), documents: make(map[string]storedDocument)}
}

// testAccount is an account in a world of its own.
func testAccount(t testing.TB) *account {
	t.Helper()
	return newAccount(newWorld(t, 0), testOwner)
}

// testFederation is one in a world of two datacenters.
func testFederation(t testing.TB) *account {
	t.Helper()
	a := testAccount(t)
	a.dcs = []string{"dc1", "dc2"}
	return a
}

func (a *account) config() Config {
	return Config{
		Owner: a.owner, Node: testNode, DataPrefix: testPrefix, PutsPerSecond: -1, Concurrency: 4,
		Functions: functionsPort{a}, Consul: a.world, Documents: documentsPort{a}, Now: a.time,
	}
}

func (a *account) registrator(change ...func(*Config)) *Registrator {
	a.Helper()
	cfg := a.config()
	for _, c := range change {
		c(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		a.Fatal(err)
	}
	return r
}

// tag sets the tags of a function, each named without its prefix.
func (a *account) tag(name string, pairs ...string) {
	tags := map[string]string{TagEnabled: "true"}
	for i := 0; i < len(pairs); i += 2 {
		tags[TagPrefix+pairs[i]] = pairs[i+1]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.functions[name] = tags
}

// tagMany tags n functions, f0 and so on.
func (a *account) tagMany(n int) {
	for i := range n {
		a.tag(fmt.Sprint("f", i))
	}
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// begin counts a call. The caller holds no lock.
func (w *world) begin(ctx context.Context, op, detail string) (after, before error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[op]++
	w.log = append(w.log, op+" "+detail)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if w.fault != nil {
		before, after = w.fault(op, detail)
	}
	return after, before
}

// fail makes each call of an operation fail of which the detail holds the text.
func (w *world) fail(op, detail string) { w.failWith(errInjected, op, detail) }

func (w *world) failWith(err error, op, detail string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = func(gotOp, gotDetail string) (before, after error) {
		if gotOp == op && strings.Contains(gotDetail, detail) {
			return err, nil
		}
		return nil, nil
	}
}

func (w *world) count(ops ...string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, op := range ops {
		n += w.calls[op]
	}
	return n
}

var (
	consulOps = []string{"Datacenters", "Services", "Defaults", "Elsewhere", "Roots", "Leaf", "Peers", "PutNode", "PutService", "DeleteService", "PutDefaults", "DeleteDefaults"}
	awsOps    = []string{"List", "Get", "Put", "Delete", "Page"}
	writeOps  = []string{"PutNode", "PutService", "DeleteService", "PutDefaults", "DeleteDefaults", "Put", "Delete"}
)

func (w *world) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.log = make(map[string]int), nil
}

// Lambda.

type functionsPort struct{ *account }

func (a functionsPort) List(ctx context.Context, from string) (Listing, error) {
	after, err := a.begin(ctx, "List", from)
	if err != nil {
		return Listing{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	shown := a.functions
	if a.stale != nil {
		shown = a.stale
	}
	l := Listing{Next: a.next}
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		if _, ok := shown[name][TagEnabled]; ok {
			l.Functions = append(l.Functions, function(a, a.owner, name, shown[name]))
		}
	}
	return l, after
}

func (a functionsPort) Get(ctx context.Context, name string) (Function, error) {
	after, err := a.begin(ctx, "Get", name)
	if err != nil {
		return Function{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	tags, ok := a.functions[name]
	if !ok {
		return Function{}, fmt.Errorf("get: %w", ErrNoFunction)
	}
	return function(a, a.owner, name, tags), after
}

func function(t testing.TB, o Owner, name string, tags map[string]string) Function {
	t.Helper()
	a, err := o.Function(name)
	if err != nil {
		t.Fatal(err)
	}
	return Function{ARN: a, Tags: maps.Clone(tags)}
}

// The store.

type documentsPort struct{ *account }

func (a documentsPort) Put(ctx context.Context, path string, document []byte) (int64, error) {
	after, err := a.begin(ctx, "Put", path)
	if err != nil {
		return 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d := storedDocument{version: a.documents[path].version + 1, ours: true, raw: document}
	if a.documents[path] = d; after != nil {
		return 0, after
	}
	return d.version, nil
}

func (a documentsPort) Delete(ctx context.Context, path string) error {
	after, err := a.begin(ctx, "Delete", path)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.documents, path)
	return after
}

func (a documentsPort) Page(ctx context.Context, token string) ([]Stored, string, error) {
	after, err := a.begin(ctx, "Page", token)
	if err != nil {
		return nil, "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var page []Stored
	for _, path := range slices.Sorted(maps.Keys(a.documents)) {
		if path <= token {
			continue
		}
		if a.pageSize > 0 && len(page) == a.pageSize {
			return page, page[len(page)-1].Path, after
		}
		page = append(page, Stored{Path: path, Version: a.documents[path].version, Ours: a.documents[path].ours})
	}
	return page, "", after
}

// Consul.

var _ Consul = (*world)(nil)

func (w *world) place(r Realm, node, namespace, id string) string {
	return strings.ToLower(r.Datacenter + "|" + r.Partition + "|" + node + "|" + namespace + "|" + id) // as Consul's indexes are
}

func (w *world) Datacenters(ctx context.Context) ([]string, error) {
	after, err := w.begin(ctx, "Datacenters", "")
	return slices.Clone(w.dcs), errors.Join(err, after)
}

func (w *world) Services(ctx context.Context, r Realm, node string) (Node, []Instance, error) {
	after, err := w.begin(ctx, "Services", r.String())
	if err != nil {
		return Node{}, nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[w.place(r, node, "", "")]
	n.Meta = maps.Clone(n.Meta)
	var found []Instance
	for at, i := range w.instances {
		if strings.HasPrefix(at, w.place(r, node, "", "")[:len(w.place(r, node, "", ""))-1]) {
			i.Tags, i.Meta = slices.Clone(i.Tags), maps.Clone(i.Meta)
			found = append(found, i)
		}
	}
	return n, found, after
}

func (w *world) Defaults(ctx context.Context, r Realm) ([]Defaults, error) {
	after, err := w.begin(ctx, "Defaults", r.String())
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []Defaults
	for _, d := range w.entries {
		if d.Key.Datacenter = r.Datacenter; d.realm() == r {
			d.Raw = slices.Clone(d.Raw)
			found = append(found, d)
		}
	}
	return found, after
}

func (w *world) Elsewhere(ctx context.Context, k Key, node string) ([]Namesake, error) {
	after, err := w.begin(ctx, "Elsewhere", k.String())
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []Namesake
	for at, i := range w.instances {
		if on := strings.Split(at, "|")[2]; i.Key.fold() == k.fold() && on != node {
			found = append(found, Namesake{Node: on, Meta: maps.Clone(i.Meta)})
		}
	}
	return found, after
}

func (w *world) Roots(ctx context.Context) (Roots, error) {
	after, err := w.begin(ctx, "Roots", "")
	if err != nil {
		return Roots{}, err
	}
	pem := w.ca.RootsPEM()
	return Roots{TrustDomain: w.ca.TrustDomain(), PEM: []string{pem}, ID: digest([]byte(pem))}, after
}

// Leaf follows Consul: what is had is handed out until 90 % of its life are over, or until the active root changes.
func (w *world) Leaf(ctx context.Context, s mesh.Service) (Leaf, error) {
	after, err := w.begin(ctx, "Leaf", s.String())
	if err != nil {
		return Leaf{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	l, ok := w.leaves[s]
	if !ok || l.generation != w.ca.Generation() || !w.now.Before(share(stored{notBefore: l.NotBefore, notAfter: l.NotAfter}, 0.9)) {
		l = cachedLeaf{w.issue(s), w.ca.Generation()}
		w.leaves[s] = l
	}
	if w.badLeaf != nil {
		return w.badLeaf(l.Leaf), after
	}
	return l.Leaf, after
}

func (w *world) issue(s mesh.Service) Leaf {
	w.Helper()
	l := Leaf{NotBefore: w.now.Add(-time.Minute).Truncate(time.Second), NotAfter: w.now.Add(w.ttl).Truncate(time.Second)}
	doc := w.ca.Doc(w, s, meshsim.LeafOptions{NotBefore: l.NotBefore, NotAfter: l.NotAfter})
	l.CertPEM, l.PrivateKeyPEM = doc.CertPEM, doc.PrivateKeyPEM
	return l
}

func (w *world) Peers(ctx context.Context, _ string) ([]mesh.DocumentPeer, error) {
	after, err := w.begin(ctx, "Peers", "")
	return slices.Clone(w.peers), errors.Join(err, after)
}

func (w *world) PutNode(ctx context.Context, r Realm, n Node) error {
	after, err := w.begin(ctx, "PutNode", r.String())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.place(r, n.Name, "", "")
	if w.nodes[at].Index != n.Index {
		return ErrConflict
	}
	for field, value := range n.Meta {
		if len(value) > 512 || strings.ContainsFunc(field, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", r)
		}) {
			w.Errorf("node meta %q=%q is not legal", field, value)
		}
	}
	w.index++
	w.nodes[at] = Node{Name: n.Name, Meta: maps.Clone(n.Meta), Index: w.index}
	return after
}

func (w *world) PutService(ctx context.Context, node string, i Instance) error {
	after, err := w.begin(ctx, "PutService", i.Key.String())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[w.place(i.realm(), node, "", "")].Index == 0 {
		return fmt.Errorf("no node %s in %v", node, i.realm())
	}
	at := w.place(i.realm(), node, i.Service.Namespace(), i.ID)
	if w.instances[at].Index != i.Index {
		return ErrConflict
	}
	for field, value := range i.Meta {
		if len(value) > 512 || strings.ContainsAny(field, "./: ") {
			w.Errorf("meta %q=%q is not legal", field, value)
		}
	}
	w.index++
	i.Index, i.Tags, i.Meta = w.index, slices.Clone(i.Tags), maps.Clone(i.Meta)
	w.instances[at] = i
	return after
}

func (w *world) DeleteService(ctx context.Context, node string, i Instance) error {
	after, err := w.begin(ctx, "DeleteService", i.Key.String())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.place(i.realm(), node, i.Service.Namespace(), i.ID)
	if there, ok := w.instances[at]; ok && there.Index != i.Index {
		return ErrConflict
	}
	delete(w.instances, at)
	return after
}

func (w *world) PutDefaults(ctx context.Context, d Defaults) error {
	after, err := w.begin(ctx, "PutDefaults", d.Key.String())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	k := everywhere(d.Key)
	if w.entries[k].Index != d.Index {
		return ErrConflict
	}
	w.index++
	w.entries[k] = Defaults{Key: d.Key.in(""), Raw: slices.Clone(d.Raw), Index: w.index}
	return after
}

func (w *world) DeleteDefaults(ctx context.Context, d Defaults) error {
	after, err := w.begin(ctx, "DeleteDefaults", d.Key.String())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	k := everywhere(d.Key)
	if there, ok := w.entries[k]; ok && there.Index != d.Index {
		return ErrConflict
	}
	delete(w.entries, k)
	return after
}

// everywhere is where an entry is kept: Consul has one for all datacenters of a federation.
func everywhere(k Key) folded { return k.in("").fold() }

// What tests ask and do.

func service(t testing.TB, name string) Key {
	t.Helper()
	s, err := mesh.ParseService(name)
	if err != nil {
		t.Fatal(err)
	}
	return Key{Service: s}
}

// instance returns what is registered on our node under the name.
func (w *world) instance(name string) (Instance, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, ok := w.instances[w.place(Realm{}, testNode, "default", name)]
	return i, ok
}

// set changes what is registered, as somebody else would.
func (w *world) set(node string, i Instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	i.Index = w.index
	w.instances[w.place(i.realm(), node, i.Service.Namespace(), i.ID)] = i
	if at := w.place(i.realm(), node, "", ""); w.nodes[at].Index == 0 {
		w.nodes[at] = Node{Name: node, Meta: maps.Clone(nodeMeta), Index: w.index}
	}
}

func (w *world) entry(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.entries[service(w, name).fold()].Raw)
}

func (w *world) setEntry(name, raw string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	w.entries[service(w, name).fold()] = Defaults{Key: service(w, name), Raw: json.RawMessage(raw), Index: w.index}
}

func (a *account) document(name string) (mesh.Document, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.documents[testPrefix+"/default/default/"+name]
	if !ok {
		return mesh.Document{}, false
	}
	doc, err := mesh.ParseDocument(d.raw)
	if err != nil {
		a.Errorf("document of %s: %v", name, err)
	}
	return doc, true
}

// state is what there is, without what differs from run to run: indexes, versions and times. It fails the test if the meta do not
// describe the documents.
func (a *account) state() string {
	a.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var lines []string
	for at, i := range a.instances {
		s := readStored(i.Meta)
		meta := maps.Clone(i.Meta)
		for _, field := range []string{metaNotBefore, metaNotAfter, metaVersion, metaWritten, metaRoots} {
			delete(meta, field)
		}
		if d, ok := a.documents[testPrefix+"/default/default/"+i.ID]; s.version != 0 && (!ok || d.version != s.version) {
			a.Errorf("the meta of %s tell of version %d, stored is %d", i.ID, s.version, d.version)
		}
		if s.version != 0 && s.roots != digest([]byte(a.ca.RootsPEM())) {
			a.Errorf("the meta of %s tell of other roots than Consul's", i.ID)
		}
		lines = append(lines, fmt.Sprint("service ", at, " ", i.Tags, " ", meta))
	}
	for k, d := range a.entries {
		var compact bytes.Buffer
		_ = json.Compact(&compact, d.Raw)
		lines = append(lines, "defaults "+Key(k).String()+" "+compact.String())
	}
	for path := range a.documents {
		lines = append(lines, "document "+path)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// run runs and demands that nothing failed.
func run(t testing.TB, r *Registrator, scope ...Scope) Result {
	t.Helper()
	result, err := runAny(t, r, scope...)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	return result
}

func runAny(t testing.TB, r *Registrator, scope ...Scope) (Result, error) {
	t.Helper()
	s := Scope{}
	if len(scope) > 0 {
		s = scope[0]
	}
	return r.Run(context.Background(), s)
}

// quiet demands that a run has nothing to change.
func quiet(t testing.TB, r *Registrator) {
	t.Helper()
	if p, err := r.Plan(context.Background(), Scope{}); err != nil || !p.Empty() {
		t.Errorf("the plan of a second run is not empty (error %v):\n%v", err, p)
	}
}

func mentions(notes []Note, text string) bool {
	return slices.ContainsFunc(notes, func(n Note) bool { return strings.Contains(n.Name+": "+n.Text, text) })
}
