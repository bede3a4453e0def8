// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

const node = "lambdas"

var byName = cmp.Comparer(func(a, b mesh.Service) bool { return a == b })

// listed is what is on our node.
func listed(t testing.TB, c *Client) (registrator.Node, []registrator.Instance) {
	t.Helper()
	n, list, err := c.Services(t.Context(), registrator.Realm{}, node)
	if err != nil {
		t.Fatal(err)
	}
	return n, list
}

// withNode makes our node.
func withNode(t testing.TB, c *Client) registrator.Node {
	t.Helper()
	meta := map[string]string{"external-node": "true", "external-probe": "true"}
	if err := c.PutNode(t.Context(), registrator.Realm{}, registrator.Node{Name: node, Meta: meta}); err != nil {
		t.Fatal(err)
	}
	n, _ := listed(t, c)
	return n
}

func TestANodeAndItsInstancesAreListedAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	c := open(t, srv.Addr(), Config{})
	if n, list := listed(t, c); n.Index != 0 || n.Name != node || len(list) != 0 {
		t.Errorf("before: %+v with %d instances", n, len(list))
	}
	n := withNode(t, c)
	if n.Index == 0 || n.Meta["external-node"] != "true" {
		t.Errorf("node %+v", n)
	}
	want := []registrator.Instance{instance(t, "a"), instance(t, "b")}
	for _, i := range want {
		if err := c.PutService(t.Context(), node, i); err != nil {
			t.Fatal(err)
		}
	}
	_, got := listed(t, c)
	for i := range got {
		if got[i].Index == 0 {
			t.Errorf("%s has no index", got[i].ID)
		}
		got[i].Index = 0
	}
	if diff := cmp.Diff(want, got, byName); diff != "" {
		t.Error(diff)
	}
}

// G5, G6: what somebody else changed meanwhile is not overwritten.
func TestAWriteThatLosesARaceChangesNothing(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	c := open(t, srv.Addr(), Config{})
	n := withNode(t, c)
	if err := c.PutService(t.Context(), node, instance(t, "fn")); err != nil {
		t.Fatal(err)
	}
	_, list := listed(t, c)
	before := srv.State()

	fresh, stale := instance(t, "fn"), list[0]
	stale.Index += 1000
	fresh.Meta, stale.Meta = map[string]string{"owner": "them"}, fresh.Meta
	other := n
	other.Index, other.Meta = n.Index+1000, nil
	for what, err := range map[string]error{
		"a second creation":     c.PutService(t.Context(), node, fresh),
		"a stale change":        c.PutService(t.Context(), node, stale),
		"a stale delete":        c.DeleteService(t.Context(), node, stale),
		"a second node":         c.PutNode(t.Context(), registrator.Realm{}, registrator.Node{Name: node}),
		"a stale node":          c.PutNode(t.Context(), registrator.Realm{}, other),
		"a node that is not":    c.PutNode(t.Context(), registrator.Realm{}, registrator.Node{Name: "none", Index: 7}),
		"an instance that left": c.PutService(t.Context(), node, registrator.Instance{Key: fresh.Key, ID: "gone", Index: 7}),
	} {
		t.Log(what)
		checkError(t, err, registrator.ErrConflict)
	}
	if after := srv.State(); after != before {
		t.Error(cmp.Diff(before, after))
	}
}

func TestDeletingAnInstanceThatIsGoneIsNoError(t *testing.T) {
	t.Parallel()
	c := open(t, start(t, consulsim.Config{}).Addr(), Config{})
	withNode(t, c)
	if err := c.PutService(t.Context(), node, instance(t, "fn")); err != nil {
		t.Fatal(err)
	}
	_, list := listed(t, c)
	for range 2 {
		if err := c.DeleteService(t.Context(), node, list[0]); err != nil {
			t.Error(err)
		}
	}
	if _, list := listed(t, c); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestAnInstanceOnANodeThatIsNotIsAnErrorButNoConflict(t *testing.T) {
	t.Parallel()
	c := open(t, start(t, consulsim.Config{}).Addr(), Config{})
	if err := c.PutService(t.Context(), node, instance(t, "fn")); err == nil {
		t.Error("no error")
	}
}

func TestChangingANodeKeepsItsAddress(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	if err := srv.PutService(consulsim.Service{Node: node, ID: "theirs", Name: "theirs"}); err != nil { // at 127.0.0.1
		t.Fatal(err)
	}
	c := open(t, srv.Addr(), Config{})
	n, _ := listed(t, c)
	n.Meta = map[string]string{"external-node": "true"}
	if err := open(t, srv.Addr(), Config{}).PutNode(t.Context(), registrator.Realm{}, n); err != nil { // by one that has not listed it
		t.Fatal(err)
	}
	now, _ := listed(t, c)
	if known := c.knownNode(nodeKey{name: node}); now.Meta["external-node"] != "true" || known.Address != "127.0.0.1" {
		t.Errorf("%+v at %q", now, known.Address)
	}
}

// G6: an entry is merged only if nothing else of that name is registered.
func TestElsewhereLooksAtOtherNodesOnly(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	c := open(t, srv.Addr(), Config{})
	key := registrator.Key{Service: service(t, "fn")}
	for _, step := range []struct {
		on   string
		want int
	}{{"", 0}, {node, 0}, {"vm-1", 1}} {
		if step.on != "" {
			if err := srv.PutService(consulsim.Service{Node: step.on, ID: "fn", Name: "fn", Meta: map[string]string{"of": step.on}}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := c.Elsewhere(t.Context(), key, "LAMBDAS")
		if len(got) != step.want || err != nil || step.want > 0 && (got[0].Node != "vm-1" || got[0].Meta["of"] != "vm-1") {
			t.Errorf("with %q: %v, %v", step.on, got, err)
		}
	}
}

// tokens: one with all that doc.go says is needed, one with the services alone, and one with nothing.
func tokens() consulsim.Config {
	return consulsim.Config{Tokens: []consulsim.Token{
		{SecretID: "full", AccessorID: "accessor-full", Rules: []consulsim.Rule{
			{Resource: "node"}, {Resource: "node", Name: node, Exact: true, Write: true}, {Resource: "service", Write: true},
			{Resource: "peering"}, {Resource: "agent"},
		}},
		{SecretID: "services", AccessorID: "accessor-services", Rules: []consulsim.Rule{
			{Resource: "service", Write: true}, {Resource: "node", Name: node, Exact: true},
		}},
		{SecretID: "nothing", AccessorID: "accessor-nothing"},
	}}
}

func TestADenialNamesTheRuleThatIsMissing(t *testing.T) {
	t.Parallel()
	srv := start(t, tokens())
	if err := srv.PutService(consulsim.Service{Node: "vm-1", ID: "fn", Name: "fn"}); err != nil {
		t.Fatal(err)
	}
	full := open(t, srv.Addr(), Config{Token: "full"})
	withNode(t, full)
	if err := full.PutService(t.Context(), node, instance(t, "fn")); err != nil {
		t.Fatal(err)
	}
	none := open(t, srv.Addr(), Config{Token: "nothing"})
	key := registrator.Key{Service: service(t, "fn")}
	entry := registrator.Defaults{Key: key, Raw: []byte(`{"Protocol":"http"}`)}
	_, _, servicesErr := none.Services(t.Context(), registrator.Realm{}, node)
	_, elsewhereErr := none.Elsewhere(t.Context(), key, node)
	_, leafErr := none.Leaf(t.Context(), key.Service)
	_, peersErr := none.Peers(t.Context(), "")
	for rule, err := range map[string]error{
		`node "lambdas" { policy = "read" }`:      servicesErr,
		`node_prefix "" { policy = "read" }`:      elsewhereErr,
		`service "fn" { policy = "write" }`:       leafErr,
		`peering = "read"`:                        peersErr,
		`node "lambdas" { policy = "write" }`:     none.PutNode(t.Context(), registrator.Realm{}, registrator.Node{Name: node}),
		`service "fn" { policy = "write" } `:      none.PutService(t.Context(), node, instance(t, "fn")),
		` service "fn" { policy = "write" }`:      none.PutDefaults(t.Context(), entry),
		` needs service "fn" { policy = "write"`:  none.DeleteDefaults(t.Context(), entry),
		`token needs service "fn" { policy = "wr`: none.DeleteService(t.Context(), node, instance(t, "fn")),
	} {
		checkError(t, err, registrator.ErrDenied, rule)
	}
}

// FACTS of least privilege: an instance on a node that exists needs service:write alone.
func TestAnInstanceNeedsNoRightToItsNode(t *testing.T) {
	t.Parallel()
	srv := start(t, tokens())
	withNode(t, open(t, srv.Addr(), Config{Token: "full"}))
	c := open(t, srv.Addr(), Config{Token: "services"})
	if err := c.PutService(t.Context(), node, instance(t, "fn")); err != nil {
		t.Fatal(err)
	}
	_, list := listed(t, c)
	if err := c.DeleteService(t.Context(), node, list[0]); err != nil {
		t.Error(err)
	}
	// The node that it cannot see is not taken for one that is not there.
	if _, err := c.Elsewhere(t.Context(), registrator.Key{Service: service(t, "web")}, node); err != nil {
		t.Error(err)
	}
	if err := srv.PutService(consulsim.Service{Node: "vm-1", ID: "web", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Elsewhere(t.Context(), registrator.Key{Service: service(t, "web")}, node)
	checkError(t, err, registrator.ErrDenied, `node_prefix ""`)
}

func TestNamespacesAndPartitionsAreSentToEnterpriseOnly(t *testing.T) {
	t.Parallel()
	s, err := mesh.NewService("fn", "payments", "")
	if err != nil {
		t.Fatal(err)
	}
	i := registrator.Instance{Key: registrator.Key{Service: s}, ID: "fn"}
	d := registrator.Defaults{Key: i.Key, Raw: []byte(`{"Protocol":"http","Namespace":"wrong","Partition":"wrong"}`)}
	for _, enterprise := range []bool{false, true} {
		srv := start(t, consulsim.Config{Enterprise: enterprise})
		c := open(t, srv.Addr(), Config{Enterprise: enterprise})
		withNode(t, c)
		if err := c.PutService(t.Context(), node, i); err != nil {
			t.Fatal(err)
		}
		if err := c.PutDefaults(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		_, list := listed(t, c)
		entries := must[[]registrator.Defaults](t)(c.Defaults(t.Context(), registrator.Realm{}))
		want := "default"
		if enterprise {
			want = "payments"
		}
		if len(list) != 1 || list[0].Service.Namespace() != want || len(entries) != 1 || entries[0].Service.Namespace() != want {
			t.Errorf("enterprise %v: %+v, %+v", enterprise, list, entries)
		}
	}
}

// G2: a leader that was elected a moment ago would otherwise answer from before the last writes, and does so when it was restarted.
func TestReadsAreConsistent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := make(map[string]bool)
	addr := answering(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.Path] = r.URL.Query().Has("consistent")
		w.WriteHeader(http.StatusTeapot) // what is answered does not matter
	})
	c := open(t, addr, Config{})
	_, _, _ = c.Services(t.Context(), registrator.Realm{}, node)
	_, _ = c.Elsewhere(t.Context(), registrator.Key{Service: service(t, "fn")}, node)
	_, _ = c.Roots(t.Context())
	_, _ = c.Datacenters(t.Context())
	c.home = new(home) // as when Datacenters has succeeded
	_, _ = c.Defaults(t.Context(), registrator.Realm{})
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 5 {
		t.Errorf("asked for %v", asked)
	}
	for path, consistent := range asked {
		if !consistent {
			t.Errorf("%s was not a consistent read", path)
		}
	}
}
