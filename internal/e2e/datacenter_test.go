// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// Two datacenters that are joined are one mesh: a function calls a service of the other by its name and datacenter, under the same
// roots, and one that is tagged for the other is registered there, from here.
func TestAFunctionReachesAnotherDatacenter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, consulproc.Config{})
	far := startConsul(t, consulproc.Config{
		Datacenter: "dc2", PrimaryDatacenter: "dc1", RetryJoinWAN: []string{w.consul.WANAddr()}, ACL: true, Token: w.consul.Token(),
	})
	waittest.NoError(t, func(ctx context.Context) error {
		for _, c := range []*api.Client{w.admin, client(t, far)} {
			for _, dc := range []string{"dc1", "dc2"} {
				if _, _, err := c.Catalog().Nodes((&api.QueryOptions{Datacenter: dc}).WithContext(ctx)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	w.aws.AddFunction("checkout", enabled())
	w.aws.AddFunction("reports", enabled("datacenter", "dc2"))
	w.aws.AddFunction("roamer", enabled())
	// In a federation the agent is asked which datacenter is its own. The policy for a single one does not allow that, and it is said.
	blind := w.registrator(t, env{"CONSUL_LAMBDA_POLICY": "dry-run"})
	if _, err := blind.try(t); err != nil || count(blind.Logs(), "agent_prefix") == 0 {
		t.Errorf("nobody said that agent_prefix is lacking; the run ended with %v", err)
	}
	w.store.Put(tokenPath, token(t, w.admin, rules(policy(node))+`agent_prefix "" { policy = "read" }`))
	w.allow(t, "ledger", "checkout")
	waittest.NoError(t, func(ctx context.Context) error { // intentions of the primary are copied to the other
		_, _, err := client(t, far).ConfigEntries().Get(api.ServiceIntentions, "ledger", (&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	r := w.registrator(t, nil)
	result, err := r.try(t)
	ok(t, err)
	// What it cannot do it says: only dc2 signs for dc2.
	if result.Created != 3 || !slices.ContainsFunc(result.Warnings, func(n registrator.Note) bool {
		return strings.Contains(n.Text, "only Consul in dc2 can issue its leaf")
	}) {
		t.Errorf("the run did %+v", result)
	}
	at, _, err := w.admin.Catalog().Service("reports", "", &api.QueryOptions{Datacenter: "dc2"})
	ok(t, err)
	if len(at) != 1 || at[0].Datacenter != "dc2" || len(w.instances(t, "reports")) != 0 {
		t.Errorf("reports is registered as %+v in dc2 and %+v in dc1", at, w.instances(t, "reports"))
	}
	if again, err := r.try(t); err != nil || changes(again) != 0 {
		t.Errorf("a second run did %+v, %v", again, err)
	}
	// service-defaults are one for the whole federation: a service that moves within it keeps its own.
	w.aws.SetTags("roamer", enabled("datacenter", "dc2"))
	moved, err := r.try(t)
	ok(t, err)
	at, _, err = w.admin.Catalog().Service("roamer", "", &api.QueryOptions{Datacenter: "dc2"})
	ok(t, err)
	if len(at) != 1 || len(w.instances(t, "roamer")) != 0 {
		t.Errorf("after it moved, by %+v, roamer is %+v in dc2 and %+v in dc1", moved, at, w.instances(t, "roamer"))
	}
	if e := w.entry(t, "roamer"); len(e.EnvoyExtensions) != 1 {
		t.Errorf("after it moved roamer has the entry %+v", e)
	}
	if again, err := r.try(t); err != nil || changes(again) != 0 {
		t.Errorf("a run after the move did %+v, %v", again, err)
	}

	proxy, err := far.ConnectProxy(t.Context(), consulproc.ProxyConfig{Service: "ledger", LocalAddr: echo(t, nil)})
	ok(t, err)
	near, err := w.consul.ConnectProxy(t.Context(), consulproc.ProxyConfig{Service: "ledger", LocalAddr: echo(t, nil)})
	ok(t, err)
	// As a mesh gateway has it: one route for all that is in another datacenter.
	w.gateway.Route("*.dc2.internal."+w.trust, proxy.Addr())
	// A gateway that leads astray: it has only the near one for this name.
	w.gateway.Route(w.sni(t, "astray", "dc2"), near.Addr())
	f := w.function(t, "checkout", "ledger:7001:dc2,ledger.svc.dc2.dc:7002,astray:7003:dc2", nil)
	for _, port := range []int{7001, 7002} {
		waittest.NoError(t, func(ctx context.Context) error { return f.say(ctx, port, "to the other side") })
	}
	if err := f.say(t.Context(), 7003, "to whom?"); err == nil {
		t.Error("a service of another name and datacenter was taken for the upstream") // R1
	}
}
