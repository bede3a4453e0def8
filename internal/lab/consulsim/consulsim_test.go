// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// clock is a clock that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newCA(t testing.TB, cfg meshsim.CAConfig) *meshsim.CA {
	t.Helper()
	ca, err := meshsim.NewCA(cfg)
	ok(t, err)
	return ca
}

func leafOf(t testing.TB, c *api.Client, name string) *api.LeafCert {
	t.Helper()
	l, _, err := c.Agent().ConnectCALeaf(name, nil)
	ok(t, err)
	return l
}

// G8: what an agent does with a plain read decides when the registrator renews.
func TestAPlainReadRenewsALeafOnlyPastNinetyPercentOfItsLife(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := start(t, Config{Now: clk.Now, CA: newCA(t, meshsim.CAConfig{LeafTTL: 10 * time.Hour})})
	c := client(t, s.Addr())
	first := leafOf(t, c, "web")
	if life := first.ValidBefore.Sub(first.ValidAfter); life != 10*time.Hour {
		t.Errorf("a leaf lives %v", life)
	}
	clk.advance(9*time.Hour - 2*time.Minute) // it was backdated by a minute
	if l := leafOf(t, c, "web"); l.SerialNumber != first.SerialNumber {
		t.Error("renewed before 90 % of its life")
	}
	clk.advance(2 * time.Minute)
	second := leafOf(t, c, "web")
	if second.SerialNumber == first.SerialNumber || second.ModifyIndex <= first.ModifyIndex {
		t.Error("not renewed past 90 % of its life")
	}
	if !second.ValidBefore.After(first.ValidBefore.Add(8 * time.Hour)) {
		t.Errorf("the new leaf ends %v, the old one %v", second.ValidBefore, first.ValidBefore)
	}
	if again := leafOf(t, c, "web"); again.SerialNumber != second.SerialNumber {
		t.Error("a new leaf was renewed at once")
	}
}

func TestALeafOfUnderTenMinutesIsRenewedByEveryRead(t *testing.T) {
	t.Parallel()
	s := start(t, Config{CA: newCA(t, meshsim.CAConfig{LeafTTL: 5 * time.Minute})})
	c := client(t, s.Addr())
	if first, second := leafOf(t, c, "web"), leafOf(t, c, "web"); first.SerialNumber == second.SerialNumber {
		t.Error("not renewed")
	}
}

func TestABlockingReadGetsANewLeafAtThreeQuartersOfItsLife(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := start(t, Config{Now: clk.Now})
	c := client(t, s.Addr())
	first := leafOf(t, c, "web")
	got := make(chan *api.LeafCert, 1)
	go blockedLeaf(c, "web", first.ModifyIndex, got)
	waittest.Until(t, "both calls", func() bool { return s.Count(OpLeaf) == 2 })
	select {
	case <-got:
		t.Fatal("answered before the leaf was due")
	case <-time.After(50 * time.Millisecond): // bounded proof of a negative
	}
	clk.advance(55 * time.Hour)
	if l := <-got; l == nil || l.SerialNumber == first.SerialNumber {
		t.Errorf("got %v, want a new leaf", l)
	}
}

func blockedLeaf(c *api.Client, name string, index uint64, got chan<- *api.LeafCert) {
	l, _, _ := c.Agent().ConnectCALeaf(name, &api.QueryOptions{WaitIndex: index, WaitTime: 10 * time.Second})
	got <- l
}

func TestARotationIsSeenInRootsAndRenewsLeaves(t *testing.T) {
	t.Parallel()
	s := start(t, Config{CA: newCA(t, meshsim.CAConfig{Intermediate: true})})
	c := client(t, s.Addr())
	before, meta, err := c.Agent().ConnectCARoots(nil)
	ok(t, err)
	leaf := leafOf(t, c, "web")

	type result struct {
		roots *api.CARootList
		err   error
	}
	got := make(chan result, 1)
	go func() { // a blocking client is woken
		r, _, err := c.Connect().CARoots(&api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 10 * time.Second})
		got <- result{r, err}
	}()
	waittest.Until(t, "the call", func() bool { return s.Count(OpRoots) == 1 })
	ok(t, s.CA().Rotate())
	woken := <-got
	ok(t, woken.err)
	after := woken.roots
	if len(after.Roots) != 2 || after.ActiveRootID == before.ActiveRootID {
		t.Fatalf("after a rotation: %d roots, active %s, was %s", len(after.Roots), after.ActiveRootID, before.ActiveRootID)
	}
	for _, r := range after.Roots {
		old := r.ID == before.ActiveRootID
		if r.Active == old || old && r.CreateIndex != before.Roots[0].CreateIndex || r.ModifyIndex <= meta.LastIndex {
			t.Errorf("root %s: active %v, indexes %d and %d", r.ID, r.Active, r.CreateIndex, r.ModifyIndex)
		}
	}
	next := leafOf(t, c, "web")
	if next.SerialNumber == leaf.SerialNumber {
		t.Error("the leaf of the old root was kept")
	}
	checkChain(t, next, after.Roots)
	// Those who know only the old root accept the new leaf by its cross-signed intermediate.
	checkChain(t, next, before.Roots)

	s.CA().Prune()
	pruned, _, err := c.Connect().CARoots(nil)
	ok(t, err)
	if len(pruned.Roots) != 1 || pruned.ActiveRootID != after.ActiveRootID {
		t.Errorf("after pruning: %d roots, active %s", len(pruned.Roots), pruned.ActiveRootID)
	}
	bundle := request(t, http.MethodGet, "http://"+s.Addr()+"/v1/connect/ca/roots?pem=true", "")
	if n := strings.Count(bundle.body, "BEGIN CERTIFICATE"); n != 2 || bundle.header.Get("Content-Type") != "application/pem-certificate-chain" {
		t.Errorf("as PEM: %d certificates of type %q, want root and intermediate", n, bundle.header.Get("Content-Type"))
	}
}

func checkChain(t *testing.T, leaf *api.LeafCert, roots []*api.CARoot) {
	t.Helper()
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for _, r := range roots {
		pool.AppendCertsFromPEM([]byte(r.RootCertPEM))
	}
	b, rest := pem.Decode([]byte(leaf.CertPEM))
	between.AppendCertsFromPEM(rest)
	cert, err := x509.ParseCertificate(b.Bytes)
	ok(t, err)
	_, err = cert.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		t.Error(err)
	}
}

func TestServersBehindOneAddressGiveLeavesInTurns(t *testing.T) {
	t.Parallel()
	c := client(t, start(t, Config{Servers: 3}).Addr())
	var serials []string
	seen := make(map[string]bool)
	for range 6 {
		l := leafOf(t, c, "web")
		serials, seen[l.SerialNumber] = append(serials, l.SerialNumber), true
	}
	if len(seen) != 3 || !cmp.Equal(serials[:3], serials[3:]) {
		t.Errorf("serial numbers %v, want three that come back in turns", serials)
	}
}

func TestSigningPastItsRateIsRefusedButNotWhatIsThere(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := start(t, Config{CSRPerSecond: 0.1, Now: clk.Now})
	c := client(t, s.Addr())
	first := leafOf(t, c, "web")
	_, _, err := c.Agent().ConnectCALeaf("other", nil)
	if status := (api.StatusError{}); !errors.As(err, &status) || status.Code != http.StatusTooManyRequests ||
		status.Body != "Rate limit reached, try again later" {
		t.Errorf("a second leaf: %v", err)
	}
	clk.advance(70 * time.Hour)
	if l := leafOf(t, c, "web"); l.SerialNumber != first.SerialNumber {
		t.Error("a leaf was signed past the rate")
	}
}

func TestALeafIsForTheLocalDatacenterOnly(t *testing.T) {
	t.Parallel()
	c := client(t, start(t, Config{Datacenters: []string{"east", "west"}}).Addr())
	if l := leafOf(t, c, "web"); !strings.Contains(l.ServiceURI, "/dc/east/") {
		t.Errorf("identity %s", l.ServiceURI)
	}
	if _, _, err := c.Agent().ConnectCALeaf("web", &api.QueryOptions{Datacenter: "west"}); err == nil {
		t.Error("got a leaf of another datacenter")
	}
}

func TestDatacentersHaveCatalogsOfTheirOwnAndShareEntries(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Datacenters: []string{"east", "west"}})
	c := client(t, s.Addr())
	for range 3 { // so that the indexes differ
		register(t, c, &api.CatalogRegistration{Node: "n", Address: "192.0.2.1"})
	}
	register(t, c, &api.CatalogRegistration{
		Node: "n", Address: "192.0.2.2", Datacenter: "west", Service: &api.AgentService{Service: "web"},
	})
	ok(t, s.PutService(Service{Datacenter: "west", Node: "n", Name: "api", Tags: []string{"t"}}))
	list, _, err := c.Catalog().NodeServiceList("n", &api.QueryOptions{Datacenter: "west"})
	ok(t, err)
	if len(list.Services) != 2 || list.Node.Address != "192.0.2.2" || list.Node.Datacenter != "west" {
		t.Errorf("west has %+v", list)
	}
	if list := nodeServices(t, c, "n"); len(list.Services) != 0 || list.Node.Address != "192.0.2.1" {
		t.Errorf("east has %+v", list)
	}
	_, _, err = c.ConfigEntries().Set(lambdaEntry("fn"), &api.WriteOptions{Datacenter: "west"})
	ok(t, err)
	here := getEntry(t, c, "fn")
	there, _, err := c.ConfigEntries().Get(api.ServiceDefaults, "fn", &api.QueryOptions{Datacenter: "west"})
	ok(t, err)
	if there.GetModifyIndex() == here.ModifyIndex {
		t.Error("a copy has the primary's index: each datacenter counts for itself")
	}
	ok(t, s.PutEntry(`{"Kind":"service-defaults","Name":"fn","Protocol":"tcp"}`))
	if got := getEntry(t, c, "fn"); got.Protocol != "tcp" || !strings.Contains(s.Entry("FN"), `"Protocol":"tcp"`) || s.Entry("none") != "" {
		t.Errorf("entry %+v, %s", got, s.Entry("FN"))
	}
	_, err = c.ConfigEntries().Delete(api.ServiceDefaults, "fn", nil)
	ok(t, err)
	if _, _, err := c.ConfigEntries().Get(api.ServiceDefaults, "fn", &api.QueryOptions{Datacenter: "west"}); err == nil {
		t.Error("the copy outlives the entry")
	}
	var got []string
	for _, sv := range s.Services() {
		got = append(got, sv.Datacenter+"/"+sv.Node+"/"+sv.ID)
	}
	if d := cmp.Diff([]string{"west/n/api", "west/n/web"}, got); d != "" {
		t.Error(d)
	}
	dcs, err := c.Catalog().Datacenters()
	ok(t, err)
	if d := cmp.Diff([]string{"east", "west"}, dcs); d != "" {
		t.Error(d)
	}
}

// What we do not know of an entry must come back as it came (G6).
func TestFieldsThatNobodyKnowsSurviveInAnEntry(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	url := "http://" + s.Addr() + "/v1/config"
	in := `{"Kind":"service-defaults","Name":"fn","FromTheFuture":{"n":12345678901234567890,"list":[1.50,null,"é"]},` +
		`"EnvoyExtensions":[{"Name":"builtin/lua","Arguments":{"Script":"x"},"Later":true}]}`
	if a := request(t, http.MethodPut, url, in); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	a := request(t, http.MethodGet, url+"/service-defaults/fn", "")
	for _, part := range []string{`"FromTheFuture":{"n":12345678901234567890,"list":[1.50,null,"é"]}`, `"Later":true`} {
		if !strings.Contains(a.body, part) {
			t.Errorf("%s is lost in %s", part, a.body)
		}
	}
	index := s.Index()
	if b := request(t, http.MethodPut, url+"?cas=0", a.body); b.body != "true" || s.Index() != index {
		t.Errorf("what was read could not be written back unchanged: %+v", b)
	}
}

func TestEnterpriseKeepsPartitionsAndNamespacesApart(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Enterprise: true})
	c := client(t, s.Addr())
	register(t, c, &api.CatalogRegistration{Node: "n", Address: "192.0.2.1", Partition: "ap1"})
	for _, ns := range []string{"", "ns1"} {
		register(t, c, &api.CatalogRegistration{Node: "n", SkipNodeUpdate: true, Partition: "ap1", Service: &api.AgentService{
			Service: "web", Namespace: ns, Partition: "ap1",
		}})
		entry := lambdaEntry("web")
		entry.Namespace, entry.Partition = ns, "ap1"
		_, _, err := c.ConfigEntries().Set(entry, nil)
		ok(t, err)
	}
	if list := nodeServices(t, c, "n"); list.Node != nil {
		t.Errorf("the default partition has %+v", list.Node)
	}
	for ns, want := range map[string]int{"": 1, "ns1": 1, "ns2": 0, "*": 2} {
		q := &api.QueryOptions{Partition: "ap1", Namespace: ns}
		list, _, err := c.Catalog().NodeServiceList("n", q)
		ok(t, err)
		entries, _, err := c.ConfigEntries().List(api.ServiceDefaults, q)
		ok(t, err)
		if len(list.Services) != want || len(entries) != want {
			t.Errorf("namespace %q has %d services and %d entries, want %d", ns, len(list.Services), len(entries), want)
		}
		for _, sv := range list.Services {
			if sv.Partition != "ap1" || ns != "*" && ns != "" && sv.Namespace != ns {
				t.Errorf("service in %s/%s", sv.Partition, sv.Namespace)
			}
		}
	}
	leaf, _, err := c.Agent().ConnectCALeaf("web", &api.QueryOptions{Partition: "ap1", Namespace: "ns1"})
	ok(t, err)
	if !strings.HasSuffix(leaf.ServiceURI, "/ap/ap1/ns/ns1/dc/dc1/svc/web") {
		t.Errorf("identity %s", leaf.ServiceURI)
	}
	if done, resp := txn(t, c, serviceOp(api.ServiceDelete, "n", api.AgentService{
		ID: "web", Service: "web", Partition: "ap1", Namespace: "ns1",
	})); !done {
		t.Errorf("%+v", resp.Errors)
	}
	if left := s.Services(); len(left) != 1 || left[0].Namespace != "default" {
		t.Errorf("left are %+v", left)
	}
}

func TestPermissionsAreThoseOfConsul(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Tokens: []Token{
		{SecretID: "root", AccessorID: "acc-root", Rules: []Rule{
			{Resource: "node", Write: true}, {Resource: "service", Write: true}, {Resource: "key", Write: true},
			{Resource: "agent", Write: true}, {Resource: "peering", Write: true},
		}},
		{SecretID: "svc", AccessorID: "acc-svc", Rules: []Rule{{Resource: "service", Name: "fn-", Write: true}}},
		{SecretID: "read", AccessorID: "acc-read", Rules: []Rule{{Resource: "node"}, {Resource: "service", Name: "fn-1", Exact: true}}},
	}})
	root, svc, reader := client(t, s.Addr(), withToken("root")), client(t, s.Addr(), withToken("svc")), client(t, s.Addr(), withToken("read"))
	reg := func(name string) *api.CatalogRegistration {
		return &api.CatalogRegistration{Node: "lambdas", Address: "192.0.2.1", SkipNodeUpdate: true, Service: &api.AgentService{Service: name}}
	}
	lacks := func(accessor, permission, on string) string {
		return fmt.Sprintf("Permission denied: token with AccessorID '%s' lacks permission '%s' on %q", accessor, permission, on)
	}
	refused := func(err error, want string) {
		t.Helper()
		if status := (api.StatusError{}); !errors.As(err, &status) || status.Code != http.StatusForbidden || status.Body != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	_, err := svc.Catalog().Register(reg("fn-1"), nil)
	refused(err, lacks("acc-svc", "node:write", "lambdas")) // the node is not there yet
	register(t, root, &api.CatalogRegistration{Node: "lambdas", Address: "192.0.2.1"})
	for _, name := range []string{"fn-1", "fn-2"} {
		register(t, svc, reg(name))
		_, _, err = svc.ConfigEntries().Set(lambdaEntry(name), nil)
		ok(t, err)
	}
	_, err = svc.Catalog().Register(reg("other"), nil)
	refused(err, lacks("acc-svc", "service:write", "other"))
	_, _, err = svc.ConfigEntries().Set(lambdaEntry("other"), nil)
	refused(err, lacks("acc-svc", "service:write", "other"))
	_, _, err = svc.Agent().ConnectCALeaf("fn-1", nil)
	ok(t, err)
	_, _, err = reader.Agent().ConnectCALeaf("fn-1", nil)
	refused(err, lacks("acc-read", "service:write", "fn-1"))
	_, err = reader.ConfigEntries().Delete(api.ServiceDefaults, "fn-1", nil)
	refused(err, lacks("acc-read", "service:write", "fn-1"))

	// Lists leave out what may not be seen, and say so.
	entries, meta, err := reader.ConfigEntries().List(api.ServiceDefaults, nil)
	ok(t, err)
	if len(entries) != 1 || entries[0].GetName() != "fn-1" || !meta.ResultsFilteredByACLs || meta.DefaultACLPolicy != "deny" {
		t.Errorf("entries %v, meta %+v", entries, meta)
	}
	list, meta, err := reader.Catalog().NodeServiceList("lambdas", nil)
	ok(t, err)
	if len(list.Services) != 1 || !meta.ResultsFilteredByACLs {
		t.Errorf("services %+v, meta %+v", list.Services, meta)
	}
	list, meta, err = svc.Catalog().NodeServiceList("lambdas", nil)
	ok(t, err)
	if list.Node != nil || list.Services != nil || !meta.ResultsFilteredByACLs {
		t.Errorf("without node:read: %+v", list)
	}

	services, meta, err := svc.Catalog().Services(nil)
	ok(t, err)
	if len(services) != 0 || !meta.ResultsFilteredByACLs {
		t.Errorf("without node:read: services %v, meta %+v", services, meta)
	}
	services, _, err = reader.Catalog().Services(nil)
	ok(t, err)
	if len(services) != 1 || services["fn-1"] == nil {
		t.Errorf("services %v", services)
	}
	_, _, err = svc.ConfigEntries().Set(&api.ProxyConfigEntry{Kind: api.ProxyDefaults, Name: api.ProxyConfigGlobal}, nil)
	refused(err, "Permission denied: token with AccessorID 'acc-svc' lacks permission 'mesh:write'")

	_, err = svc.Catalog().Deregister(&api.CatalogDeregistration{Node: "lambdas", ServiceID: "fn-1"}, nil)
	ok(t, err)
	_, err = svc.Catalog().Deregister(&api.CatalogDeregistration{Node: "lambdas", ServiceID: "fn-1"}, nil)
	if status := (api.StatusError{}); !errors.As(err, &status) || status.Code != 500 || status.Body != "Unknown service ID 'fn-1'" {
		t.Errorf("deregistering what is gone without node:write: %v", err)
	}
	_, resp := txn(t, svc,
		serviceOp(api.ServiceSet, "lambdas", api.AgentService{ID: "other", Service: "other"}),
		&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeDelete, Node: api.Node{Node: "lambdas"}}},
	)
	want := api.TxnErrors{{OpIndex: 0, What: lacks("acc-svc", "service:write", "other")}, {OpIndex: 1, What: lacks("acc-svc", "node:write", "lambdas")}}
	if d := cmp.Diff(want, resp.Errors); d != "" {
		t.Error(d)
	}

	_, err = client(t, s.Addr()).Catalog().Register(reg("fn-3"), nil)
	refused(err, `Permission denied: anonymous token lacks permission 'service:write' on "fn-3". `+
		`The anonymous token is used implicitly when a request does not specify a token.`)
	_, err = client(t, s.Addr(), withToken("who")).Catalog().Register(reg("fn-3"), nil)
	refused(err, "ACL not found")
	// Roots are for everybody, and a token may come as a bearer's.
	_, _, err = client(t, s.Addr()).Agent().ConnectCARoots(nil)
	ok(t, err)
	if a := request(t, http.MethodGet, "http://"+s.Addr()+"/v1/agent/self", "", "Authorization", "Bearer root"); a.status != 200 {
		t.Errorf("bearer token: %+v", a)
	}
}

func TestPeeringsAreThoseThatWerePut(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := client(t, s.Addr())
	s.PutPeering(Peering{
		Name: "west", PeerID: "p", PeerCAPems: []string{"pem"}, Remote: PeeringRemote{Partition: "default", Datacenter: "dc2"},
		StreamStatus: StreamStatus{ImportedServices: []string{"api"}},
	})
	s.PutPeering(Peering{Name: "east", State: "PENDING"})
	got, _, err := c.Peerings().Read(t.Context(), "west", nil)
	ok(t, err)
	if got.State != api.PeeringStateActive || got.Remote.Datacenter != "dc2" || got.ID == "" || got.ModifyIndex == 0 ||
		!cmp.Equal(got.StreamStatus.ImportedServices, []string{"api"}) {
		t.Errorf("got %+v", got)
	}
	list, _, err := c.Peerings().List(t.Context(), nil)
	ok(t, err)
	if len(list) != 2 || list[0].Name != "east" || list[0].State != api.PeeringStatePending || list[0].ID == got.ID {
		t.Errorf("list %+v", list)
	}
	s.DeletePeering("west")
	if got, _, err := c.Peerings().Read(t.Context(), "west", nil); err != nil || got != nil {
		t.Errorf("after its deletion: %+v, %v", got, err)
	}
}

// A client that failed midway and was run again is compared by this with one that never failed (G1).
func TestTheSameStateHasTheSameTextWhateverWasDoneToReachIt(t *testing.T) {
	t.Parallel()
	a, b := start(t, Config{}), start(t, Config{})
	ca, cb := client(t, a.Addr()), client(t, b.Addr())
	reg := &api.CatalogRegistration{Node: "n", Address: "192.0.2.1", Service: &api.AgentService{Service: "web"}}
	register(t, ca, reg)
	register(t, cb, &api.CatalogRegistration{Node: "n", Address: "192.0.2.9", Service: &api.AgentService{Service: "old"}})
	if a.State() == b.State() {
		t.Error("different states have the same text")
	}
	_, err := cb.Catalog().Deregister(&api.CatalogDeregistration{Node: "n", ServiceID: "old"}, nil)
	ok(t, err)
	register(t, cb, reg)
	for _, c := range []*api.Client{ca, cb} {
		_, _, err := c.ConfigEntries().Set(lambdaEntry("web"), nil)
		ok(t, err)
		leafOf(t, c, "web")
	}
	if d := cmp.Diff(a.State(), b.State()); d != "" {
		t.Error(d)
	}
	if strings.Contains(a.State(), "CERTIFICATE") || strings.Contains(a.State(), "consul-server") {
		t.Error("the state has leaves, or the servers' own node")
	}
}

func TestEveryFaultIsSeenByTheClientAndHealed(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	url := "http://" + s.Addr() + "/v1/kv/k"
	for _, f := range []struct {
		name   string
		fault  Fault
		status int   // 0: none
		err    error // nil: any
		done   bool
	}{
		{"no leader", NoLeader(), 500, nil, false},
		{"throttled", Throttled(), 429, nil, false},
		{"denied", PermissionDenied(), 403, nil, false},
		{"status", Status(503, "later"), 503, nil, false},
		{"reset", Reset(), 0, syscall.ECONNRESET, false},
		{"reset after", ResetAfter(), 0, syscall.ECONNRESET, true},
		{"cut", Cut(), 200, io.ErrUnexpectedEOF, true},
	} {
		s.FailNext(OpKVPut, 1, f.fault)
		a, err := try(t, http.MethodPut, url, f.name)
		if a.status != f.status || (err != nil) != (f.status == 0 || f.err != nil) || f.err != nil && !errors.Is(err, f.err) {
			t.Errorf("%s: status %d, %v", f.name, a.status, err)
		}
		if got := request(t, http.MethodGet, url+"?raw", "").body == f.name; got != f.done {
			t.Errorf("%s: done %v, want %v", f.name, got, f.done)
		}
		if a := request(t, http.MethodPut, url, "after"); a.status != 200 {
			t.Errorf("%s: the next request is answered %d", f.name, a.status)
		}
	}
	s.FailAll("", NoLeader())
	for range 2 {
		if a := request(t, http.MethodGet, url, ""); a.status != 500 {
			t.Errorf("all fail: %d", a.status)
		}
	}
	s.Heal()
	if a := request(t, http.MethodGet, url, ""); a.status != 200 {
		t.Errorf("healed: %d", a.status)
	}
}

func TestExactlyTheNthRequestFails(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	url := "http://" + s.Addr() + "/v1/status/leader"
	request(t, http.MethodGet, url, "")
	for nth := 1; nth <= 3; nth++ {
		s.ResetCalls()
		s.FailAt(nth, NoLeader())
		for i := 1; i <= 3; i++ {
			if a := request(t, http.MethodGet, url, ""); (a.status == 500) != (i == nth) {
				t.Errorf("request %d is answered %d when %d is to fail", i, a.status, nth)
			}
		}
	}
}

func TestAHungRequestGoesOnWhenReleasedAndEndsWithTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	url := "http://" + s.Addr() + "/v1/status/leader"
	got := make(chan error, 1)
	ask := func() { _, err := try(t, http.MethodGet, url, ""); got <- err }
	s.FailAll(OpLeader, Hang())
	go ask()
	waittest.Until(t, "the call", func() bool { return s.Count(OpLeader) == 1 })
	for err, waiting := error(nil), true; waiting; { // until it hangs at the gate
		s.Release()
		select {
		case err = <-got:
			ok(t, err)
			waiting = false
		case <-time.After(time.Millisecond):
		}
	}
	go ask()
	waittest.Until(t, "the second call", func() bool { return s.Count(OpLeader) == 2 })
	s.Close()
	if err := <-got; err == nil {
		t.Error("a hung request was answered by a closed server")
	}
	if _, err := net.DialTimeout("tcp", s.Addr(), time.Second); err == nil {
		t.Error("a closed server still listens")
	}
}

func TestLatencyDelaysAndALeavingClientEndsIt(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.SetLatency(OpLeader, 30*time.Millisecond)
	began := time.Now()
	request(t, http.MethodGet, "http://"+s.Addr()+"/v1/status/leader", "")
	if d := time.Since(began); d < 30*time.Millisecond {
		t.Errorf("answered after %v", d)
	}
	s.SetLatency("", time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	c := client(t, s.Addr())
	if _, _, err := c.Catalog().Nodes((&api.QueryOptions{}).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	s.SetLatency("", 0)
	_, _, err := c.Catalog().Nodes(nil)
	ok(t, err)
}

func TestCallsSayWhatWasAskedOfWhom(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := client(t, s.Addr())
	register(t, c, &api.CatalogRegistration{Node: "n", Address: "192.0.2.1", Service: &api.AgentService{Service: "web"}})
	_, _, err := c.ConfigEntries().Set(lambdaEntry("fn"), nil)
	ok(t, err)
	leafOf(t, c, "web")
	_, _, err = c.Catalog().NodeServiceList("n", &api.QueryOptions{Datacenter: "dc1"})
	ok(t, err)
	request(t, http.MethodPost, "http://"+s.Addr()+"/v1/config", "")
	var got []string
	for _, call := range s.Calls() {
		got = append(got, call.Op+" "+call.Name+" "+call.Datacenter)
		if call.At.IsZero() || call.RemoteAddr == "" {
			t.Errorf("call %+v", call)
		}
	}
	want := []string{"catalog.register web ", "config.set fn ", "leaf web ", "catalog.node-services n dc1", "unknown  "}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if s.Count("") != 5 || s.Count(OpLeaf) != 1 || s.Count(OpUnknown) != 1 {
		t.Errorf("counts %d, %d", s.Count(""), s.Count(OpLeaf))
	}
	s.ResetCalls()
	if s.Count("") != 0 {
		t.Error("calls outlive ResetCalls")
	}
	defer func() {
		if recover() == nil {
			t.Error("a fault for an operation that does not exist was taken")
		}
	}()
	s.FailNext("catalog.regsiter", 1, NoLeader())
}

func TestManyClientsAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Servers: 2})
	c := client(t, s.Addr())
	register(t, c, &api.CatalogRegistration{Node: "n", Address: "192.0.2.1"})
	const workers, each = 8, 20
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				name := fmt.Sprintf("svc-%d-%d", w, i)
				if _, err := c.Catalog().Register(&api.CatalogRegistration{
					Node: "n", SkipNodeUpdate: true, Service: &api.AgentService{Service: name},
				}, nil); err != nil {
					t.Error(err)
				}
				if _, _, err := c.ConfigEntries().CAS(lambdaEntry(name), 0, nil); err != nil {
					t.Error(err)
				}
				if _, _, err := c.Agent().ConnectCALeaf("web", nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	entries, _, err := c.ConfigEntries().List(api.ServiceDefaults, nil)
	ok(t, err)
	if len(s.Services()) != workers*each || len(entries) != workers*each {
		t.Errorf("%d services and %d entries, want %d", len(s.Services()), len(entries), workers*each)
	}
	serials := make(map[string]bool)
	for _, sv := range []*api.LeafCert{leafOf(t, c, "web"), leafOf(t, c, "web")} {
		serials[sv.SerialNumber] = true
	}
	if len(serials) != 2 {
		t.Errorf("%d leaves of two servers", len(serials))
	}
}
