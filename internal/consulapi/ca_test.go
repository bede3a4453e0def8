// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

func TestRootsAreAllOfThemAndTheirIDIsTheSets(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	c := open(t, srv.Addr(), Config{})
	before := must[registrator.Roots](t)(c.Roots(t.Context()))
	again := must[registrator.Roots](t)(c.Roots(t.Context()))
	if len(before.PEM) != 1 || before.TrustDomain == "" || before.ID == "" || before.ID != again.ID {
		t.Errorf("%+v", before)
	}
}

// G4, G8: a root set is the same whatever its order and the text around the certificates.
func TestASetOfRootsHasOneID(t *testing.T) {
	t.Parallel()
	var pems []string
	for range 2 {
		roots := must[registrator.Roots](t)(open(t, start(t, consulsim.Config{}).Addr(), Config{}).Roots(t.Context()))
		pems = append(pems, roots.PEM[0])
	}
	both := must[string](t)(setID(pems))
	for name, same := range map[string][]string{
		"another order": {pems[1], pems[0]},
		"one text":      {pems[0] + "\n" + pems[1]},
		"a comment":     {"# root\n" + pems[0], pems[1]},
		"one twice":     {pems[0], pems[1], pems[0]},
	} {
		if id := must[string](t)(setID(same)); id != both {
			t.Errorf("%s: %s, want %s", name, id, both)
		}
	}
	if one := must[string](t)(setID(pems[:1])); one == both {
		t.Error("a part has the ID of the whole")
	}
	if _, err := setID([]string{"no PEM"}); err == nil {
		t.Error("what is no PEM has an ID")
	}
}

func TestNoRootsAreAnError(t *testing.T) {
	t.Parallel()
	addr := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"ActiveRootID":"","TrustDomain":"","Roots":null}`))
	})
	_, err := open(t, addr, Config{}).Roots(t.Context())
	checkError(t, err, nil, "connect")
}

func TestALeafComesWithItsValidity(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	leaf := must[registrator.Leaf](t)(open(t, srv.Addr(), Config{}).Leaf(t.Context(), service(t, "fn")))
	if leaf.CertPEM == "" || leaf.PrivateKeyPEM == "" || !leaf.NotBefore.Before(leaf.NotAfter) || time.Until(leaf.NotAfter) < time.Minute {
		t.Errorf("from %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
}

// R18: whatever comes in the place of a leaf, none of it is in an error.
func TestAnErrorHoldsNothingOfALeaf(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"CertPEM":"hunter2","PrivateKeyPEM":"hunter2","ValidAfter":"hunter2"}`,
		`{"CertPEM":"hunter2","PrivateKeyPEM":"hunter2"}`,
		`{"CertPEM":"hunter2","PrivateKeyPEM":{"hunter2":1}}`,
		`{"PrivateKeyPEM":"hunter2`,
		`hunter2`,
	} {
		addr := answering(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
		_, err := open(t, addr, Config{}).Leaf(t.Context(), service(t, "fn"))
		if err == nil || strings.Contains(fmt.Sprintf("%+v", err), "hunter2") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// G9: the CA's own limit backs us off.
func TestBusyAnswersAreTriedAgain(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]consulsim.Fault{
		"429":                 consulsim.Throttled(),
		"503":                 consulsim.Status(503, "rate limit exceeded, try again later"),
		"no leader":           consulsim.NoLeader(),
		"a new leader":        consulsim.Status(500, "Not ready to serve consistent reads"),
		"csr: rate limited":   consulsim.Status(429, "rate limit reached, try again later"),
		"429 without a cause": consulsim.Status(429, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t, consulsim.Config{})
			srv.FailNext(consulsim.OpLeaf, 1, fault)
			if _, err := open(t, srv.Addr(), Config{}).Leaf(t.Context(), service(t, "fn")); err != nil || srv.Count(consulsim.OpLeaf) != 2 {
				t.Errorf("%d calls, %v", srv.Count(consulsim.OpLeaf), err)
			}
		})
	}
}

// G9: a call ends after its last try, or when the next one would come too late, and says how many there were.
func TestTriesAreBoundedAndCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, tries := open(t, "127.0.0.1:0", Config{}), 0
		busy := func(context.Context) error {
			tries++
			return api.StatusError{Code: http.StatusTooManyRequests, Body: "rate limited"}
		}
		start := time.Now()
		err := c.do(t.Context(), operation{name: "asking"}, busy)
		// Five pauses of up to 0.25, 0.5, 1, 2 and 4 s, and at least half of each.
		if took := time.Since(start); tries != maxTries || took < 3875*time.Millisecond || took > 7750*time.Millisecond {
			t.Errorf("%d tries in %v", tries, took)
		}
		checkError(t, err, nil, "tried 6 times", "rate limited")
		ctx, cancel := context.WithTimeout(t.Context(), 350*time.Millisecond)
		defer cancel()
		tries = 0
		err = c.do(ctx, operation{name: "asking"}, busy)
		checkError(t, err, nil, "tried 2 times", "rate limited")
		if ctx.Err() != nil || tries != 2 {
			t.Errorf("%d tries, context %v: the third would be after 375 ms at the earliest", tries, ctx.Err())
		}
	})
}

func TestOtherFailuresAreNotTriedAgain(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]consulsim.Fault{
		"500": consulsim.Status(500, "rpc error making call: broken"), "cut": consulsim.Cut(), "reset": consulsim.Reset(),
		"404": consulsim.Status(404, "no such thing"),
	} {
		srv := start(t, consulsim.Config{})
		srv.FailAll(consulsim.OpTxn, fault)
		c := open(t, srv.Addr(), Config{})
		err := c.PutService(t.Context(), node, instance(t, "fn"))
		if err == nil || errors.Is(err, registrator.ErrConflict) || srv.Count(consulsim.OpTxn) != 1 {
			t.Errorf("%s: %d calls, %v", name, srv.Count(consulsim.OpTxn), err)
		}
	}
}

func TestAHangingCallEndsAfterItsTimeout(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	srv.FailAll(consulsim.OpRoots, consulsim.Hang())
	_, err := open(t, srv.Addr(), Config{Timeout: 50 * time.Millisecond}).Roots(t.Context())
	checkError(t, err, context.DeadlineExceeded, "no answer in time")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = open(t, srv.Addr(), Config{}).Roots(ctx)
	checkError(t, err, context.Canceled)
}

func TestLeafsKeepToTheirRate(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	c := open(t, srv.Addr(), Config{LeafRate: 0.5})
	_ = must[registrator.Leaf](t)(c.Leaf(t.Context(), service(t, "a")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := c.Leaf(ctx, service(t, "b"))
	checkError(t, err, context.DeadlineExceeded, "rate")
	if n := srv.Count(consulsim.OpLeaf); n != 1 || ctx.Err() != nil {
		t.Errorf("%d calls, context %v", n, ctx.Err())
	}
}

// The token must go nowhere else.
func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := answering(t, func(http.ResponseWriter, *http.Request) { t.Error("followed") })
	addr := answering(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
	})
	if _, err := open(t, addr, Config{Token: "secret"}).Roots(t.Context()); err == nil {
		t.Error("no error")
	}
}

// A token and a CA from Parameter Store come before those of the environment.
func TestWhatIsHandedInComesBeforeTheEnvironment(t *testing.T) {
	var got string
	addr := answering(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("X-Consul-Token")
		_, _ = w.Write([]byte(`["dc1"]`))
	})
	t.Setenv("CONSUL_HTTP_ADDR", addr)
	t.Setenv("CONSUL_HTTP_TOKEN", "of the environment")
	for _, token := range []string{"", "handed in"} {
		c, err := New(Config{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		if list := must[[]string](t)(c.Datacenters(t.Context())); !slices.Equal(list, []string{"dc1"}) {
			t.Error(list)
		}
		c.Close()
		if want := "of the environment"; token == "" && got != want || token != "" && got != token {
			t.Errorf("token %q: sent %q", token, got)
		}
	}
	t.Setenv("CONSUL_CACERT", "/nowhere.pem")
	if _, err := New(Config{}); err == nil {
		t.Error("a CA file that does not exist is ignored")
	}
	roots := must[registrator.Roots](t)(open(t, start(t, consulsim.Config{}).Addr(), Config{CACert: []byte(rootsPEM(t))}).Roots(t.Context()))
	if len(roots.PEM) != 1 {
		t.Error(roots)
	}
	if _, err := New(Config{CACert: []byte("no PEM")}); err == nil {
		t.Error("a CA that is no PEM is ignored")
	}
}

func rootsPEM(t testing.TB) string {
	t.Helper()
	return start(t, consulsim.Config{}).CA().RootsPEM()
}

// FACTS D4: what the HTTP API shows of a peer.
func TestPeersAreKnownAsFarAsConsulShowsThem(t *testing.T) {
	t.Parallel()
	root := rootsPEM(t)
	srv := start(t, consulsim.Config{})
	srv.PutPeering(consulsim.Peering{
		Name: "west", PeerCAPems: []string{root, root}, PeerServerName: "server.dc2.peering.west.consul", Remote: consulsim.PeeringRemote{Datacenter: "dc2"},
	})
	srv.PutPeering(consulsim.Peering{Name: "east", PeerCAPems: []string{root}, State: "FAILING"}) // we accepted it
	srv.PutPeering(consulsim.Peering{Name: "new", State: "PENDING"})
	srv.PutPeering(consulsim.Peering{Name: "dark"}) // nothing says its trust domain
	peers := must[[]mesh.DocumentPeer](t)(open(t, srv.Addr(), Config{}).Peers(t.Context(), ""))
	want := []mesh.DocumentPeer{
		{Name: "east", TrustDomain: rootTrustDomain([]string{root}), RootCertPEM: line(root)},
		{Name: "west", TrustDomain: "west.consul", Datacenter: "dc2", RootCertPEM: line(root) + line(root)},
	}
	if !slices.Equal(peers, want) || want[0].TrustDomain == "" {
		t.Errorf("got %+v", peers)
	}
}

func TestAPeersOwnNamesAreThoseOfAServiceItExports(t *testing.T) {
	t.Parallel()
	asked := 0
	addr := answering(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/peerings":
			_, _ = w.Write([]byte(`[{"ID":"p1","Name":"west","State":"ACTIVE","StreamStatus":{"ImportedServices":["billing"]},"Remote":{"Datacenter":"dc2"}}]`))
		case "/v1/health/connect/billing":
			asked++
			if r.URL.Query().Get("peer") != "west" {
				t.Error(r.URL)
			}
			_, _ = w.Write([]byte(`[{"Service":{"Connect":{"PeerMeta":{"SNI":["billing.default.default.us-lambdas.external.west.consul"]}}}}]`))
		default:
			t.Error(r.URL)
		}
	})
	c := open(t, addr, Config{})
	for range 2 {
		peers := must[[]mesh.DocumentPeer](t)(c.Peers(t.Context(), ""))
		want := mesh.DocumentPeer{Name: "west", TrustDomain: "west.consul", RemoteName: "us-lambdas", Datacenter: "dc2"}
		if len(peers) != 1 || peers[0] != want {
			t.Errorf("%+v", peers)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestAConsulWithoutPeeringHasNoPeers(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	for name, fault := range map[string]consulsim.Fault{
		"switched off": consulsim.Status(500, "peering must be enabled to use this endpoint"), "older": consulsim.Status(404, "404 page not found"),
	} {
		srv.FailAll(consulsim.OpPeerings, fault)
		if peers, err := open(t, srv.Addr(), Config{}).Peers(t.Context(), ""); len(peers) != 0 || err != nil {
			t.Errorf("%s: %v, %v", name, peers, err)
		}
		srv.Heal()
	}
	srv.FailAll(consulsim.OpPeerings, consulsim.Status(500, "broken"))
	if _, err := open(t, srv.Addr(), Config{}).Peers(t.Context(), ""); err == nil {
		t.Error("a failure is taken for no peers")
	}
}
