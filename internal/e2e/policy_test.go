// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// The policy of docs/security.md is enough for everything that a registrator does, and each of its rules is needed: without it the
// operation that is named fails, or is done without, and says so; nothing is taken away that worked.
func TestThePolicyIsEnoughAndEachOfItsRulesIsNeeded(t *testing.T) {
	t.Parallel()
	server := startConsul(t, consulproc.Config{ACL: true})
	admin := client(t, server)
	// The name of each function is taken on another node where that matters.
	_, err := admin.Catalog().Register(&api.CatalogRegistration{
		Node: "machine", Address: "192.0.2.1", Service: &api.AgentService{Service: "fn-taken"},
	}, nil)
	ok(t, err)

	for i, c := range []struct {
		without  string // rules of policy, with "+" between them
		instead  string // rules in its place
		function string
		exists   bool     // the node is there
		says     []string // in the error of the run; nil: it succeeds
		warns    string   // the result
		logs     string   // the run, which does without
	}{
		{function: "fn-all"},
		{without: "node", function: "fn-node", says: []string{"writing the node", `node "NODE" { policy = "write" }`}},
		// The node cannot be seen to have what is registered on it: nothing may be concluded from that (G2).
		{without: "nodes", function: "fn-taken", says: []string{"looking for service fn-taken", `node_prefix "" { policy = "read" }`}},
		{function: "fn-taken", warns: "a service of that name is registered on another node"},
		{without: "services", function: "fn-service", says: []string{"writing service-defaults fn-service", `service "fn-service" { policy = "write" }`}},
		// Consul takes twelve seconds to refuse that.
		{without: "peering", function: "fn-peering", logs: "listing peerings: registrator: permission denied: the token needs peering"},
		// The policy that the predecessor documents. Here its node is there already, and cannot be seen: nothing is done.
		{without: "node+nodes+peering", exists: true, function: "fn-old", says: []string{"listing services", `node "NODE" { policy = "read" }`}},
		// Narrower is possible where the names are known.
		{without: "services", instead: `service "fn-named" { policy = "write" }`, function: "fn-named"},
	} {
		t.Run(fmt.Sprintf("without %q, %s", c.without, c.function), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("lambdas-%d", i)
			// An account of its own: registrators of one account keep the same functions.
			w := newAccount(t, server, fmt.Sprintf("1000000000%02d", i))
			all := policy(name)
			for rule := range strings.SplitSeq(c.without, "+") {
				delete(all, rule)
			}
			if c.exists {
				_, err := admin.Catalog().Register(&api.CatalogRegistration{Node: name, Address: "127.0.0.1"}, nil)
				ok(t, err)
			}
			w.store.Put(tokenPath, token(t, admin, rules(all)+c.instead))
			w.aws.AddFunction(c.function, enabled())
			r := w.registrator(t, env{"NODE_NAME": name})
			result, err := r.try(t)
			if c.says != nil {
				if err == nil {
					t.Fatalf("the run succeeded: %+v", result)
				}
				for _, s := range c.says {
					if s = strings.ReplaceAll(s, "NODE", name); !strings.Contains(err.Error(), s) {
						t.Errorf("the run failed with %q, want it to say %q", err, s)
					}
				}
				return
			}
			ok(t, err)
			if c.warns != "" {
				if !slices.ContainsFunc(result.Warnings, func(n registrator.Note) bool { return strings.Contains(n.Text, c.warns) }) {
					t.Errorf("the run had these warnings: %+v", result.Warnings)
				}
				return
			}
			if c.logs != "" && count(r.Logs(), c.logs) == 0 {
				t.Errorf("the run did not log %q", c.logs)
			}
			if result.Created != 1 || result.Warned > 0 {
				t.Errorf("the run did %+v", result)
			}
			// Changing, and taking out, need no more.
			w.aws.SetTags(c.function, enabled("invocation-mode", "ASYNCHRONOUS"))
			if again := r.run(t); again.Updated != 1 {
				t.Errorf("after a change of the tags the run did %+v", again)
			}
			w.aws.SetTags(c.function, nil)
			if last := r.run(t); last.Deleted != 1 || len(w.instances(t, c.function)) != 0 || len(w.store.Names()) != 1 {
				t.Errorf("after the tags were gone the run did %+v and left %v", last, w.store.Names())
			}
		})
	}
}
