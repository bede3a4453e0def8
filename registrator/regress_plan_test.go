// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
)

// days runs every ten minutes for longer than a leaf lives, and returns the last result.
func (a *account) days(r *Registrator) (result Result, err error) {
	a.Helper()
	for range 72*6 + 10 {
		a.pass(10 * time.Minute)
		result, err = runAny(a, r)
	}
	return result, err
}

// alive demands that the leaf of a service has not run out.
func (a *account) alive(name string) {
	a.Helper()
	if i, ok := a.instance(name); !ok || !a.time().Before(readStored(i.Meta).notAfter) {
		a.Errorf("the leaf of %s ran out, or it is not registered: %v", name, i.Meta)
	}
}

// G6: service-defaults are one for a federation, so a name is taken if it is taken in any datacenter, one that is not kept included.
func TestAServiceOfAnotherDatacenterKeepsItsServiceDefaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		only, node, entry string
	}{
		"with an entry":                     {"", "vm-7", `{"Kind":"service-defaults","Name":"db","MaxInboundConnections":7}`},
		"without an entry":                  {"", "vm-7", ""},
		"in one that is not kept":           {"dc1", "vm-7", ""},
		"on a node of our name":             {"", testNode, ""},
		"on one of our name, not kept":      {"dc1", testNode, ""},
		"in one that is not kept, an entry": {"dc1", "vm-7", `{"Kind":"service-defaults","Name":"db","Protocol":"http"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testFederation(t)
			k := service(t, "db").in("dc2")
			a.set(test.node, Instance{Key: k, ID: "db"})
			if test.entry != "" {
				a.setEntry("db", test.entry)
			}
			a.tag("db")
			result := run(t, a.registrator(func(c *Config) { c.Datacenter = test.only }))
			if a.entry("db") != test.entry || result.Created != 0 || !mentions(result.Warnings, "datacenter dc2") {
				t.Errorf("entry %s, result %+v", a.entry("db"), result)
			}
		})
	}
}

// G6: a datacenter that does not answer may have the name.
func TestNothingIsCreatedUnlessEveryDatacenterWasAskedForTheName(t *testing.T) {
	t.Parallel()
	a := testFederation(t)
	a.tag("web")
	a.fail("Elsewhere", "dc2")
	if result, err := runAny(t, a.registrator()); err == nil || result.Created != 0 || a.entry("web") != "" {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// G5: the function has come from the datacenter that another registrator of this owner keeps.
func TestOurServiceInADatacenterThatIsNotKeptIsNoObstacle(t *testing.T) {
	t.Parallel()
	a := testFederation(t)
	a.tag("web", "datacenter", "dc2")
	run(t, a.registrator(func(c *Config) { c.Datacenter, c.Node = "dc2", "there" }))
	a.tag("web")
	if result := run(t, a.registrator(func(c *Config) { c.Datacenter = "dc1" })); result.Created != 1 {
		t.Errorf("result %+v", result)
	}
}

// G5: neither the heartbeat nor anything else makes somebody's machine a node for Lambda functions.
func TestTheHeartbeatLeavesAMachineAlone(t *testing.T) {
	t.Parallel()
	a := testFederation(t)
	machine := a.place(Realm{}, testNode, "", "")
	a.nodes[machine] = Node{Name: testNode, Meta: map[string]string{"rack": "7"}, Index: 4}
	a.tag("web", "datacenter", "dc2")
	if result := run(t, a.registrator()); result.Warned != 0 && !mentions(result.Warnings, "credential") {
		t.Errorf("result %+v", result)
	}
	if n := a.nodes[machine]; n.Index != 4 || len(n.Meta) != 1 {
		t.Errorf("the machine is %+v", n)
	}
	ours := a.nodes[a.place(Realm{Datacenter: "dc2"}, testNode, "", "")]
	if readHeartbeat(ours, testOwner).Looked.IsZero() {
		t.Errorf("no heartbeat in %+v", ours)
	}
	a.reset()
	a.pageSize = 1
	a.documents[testPrefix+"/default/default/a"], a.documents[testPrefix+"/default/default/b"] = storedDocument{version: 1}, storedDocument{version: 1}
	a.pass(time.Minute)
	if run(t, a.registrator()); a.count("Page") != 1 {
		t.Errorf("%d pages: a new process does not find the heartbeat", a.count("Page"))
	}
}

// G8: the services of a node that was renamed are ours, and nobody renews their leaves. That is said at once, not when they are out.
func TestARenamedNodeIsAFailureThatNamesBoth(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	a.tag("db")
	run(t, a.registrator())
	result, err := runAny(t, a.registrator(func(c *Config) { c.Node = "renamed" }))
	if err == nil || len(result.Failures) != 1 || !mentions(result.Failures, "node "+testNode+": 2 services") || !mentions(result.Failures, "keep node renamed") {
		t.Errorf("error %v, result %+v", err, result)
	}
	if result := run(t, a.registrator()); len(result.Changed) != 0 {
		t.Errorf("with the old name again: %+v", result)
	}
}

// G2, G8: what cannot be read forbids deletes. It does not stop the renewal of what is known.
func TestLeavesAreRenewedWhateverElseCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, call := range map[string][2]string{
		"a datacenter's services":         {"Services", "dc2"},
		"a datacenter's service-defaults": {"Defaults", "dc2"},
		"the functions":                   {"List", ""},
		"the store's listing":             {"Page", ""},
		"the peerings":                    {"Peers", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testFederation(t)
			a.tag("web")
			r := a.registrator()
			run(t, r)
			a.fail(call[0], call[1])
			if _, err := a.days(r); err == nil {
				t.Error("a listing fails for days in green runs")
			}
			a.alive("web")
		})
	}
}

// G2: the service-defaults of a service may be in use in the datacenter that is away.
func TestNothingIsDeletedWhileADatacenterIsAway(t *testing.T) {
	t.Parallel()
	a := testFederation(t)
	a.tag("web")
	a.tag("far", "datacenter", "dc2")
	r := a.registrator()
	run(t, r)
	before := a.state()
	delete(a.functions, "web")
	delete(a.functions, "far")
	a.tag("new", "datacenter", "dc2")
	a.fail("Services", "dc2")
	result, err := runAny(t, r)
	if err == nil || len(result.Changed) != 0 || a.state() != before || !mentions(result.Left, "not all of Consul could be read") {
		t.Errorf("error %v, result %+v", err, result)
	}
	a.fault = nil
	if result := run(t, r); result.Deleted != 2 || result.Created != 1 {
		t.Errorf("when it is back: %+v", result)
	}
}

// G2, G8: a document does not lose its peers because they could not be listed once.
func TestADocumentKeepsItsPeersWhileTheyCannotBeListed(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.peers = append(a.peers, certtest.NewCA(t).Peer("east", "west"))
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.fail("Peers", "")
	a.pass(70 * time.Hour)
	if result, err := runAny(t, r); err == nil || len(result.Changed) != 0 {
		t.Errorf("error %v, result %+v", err, result)
	}
	a.pass(110 * time.Minute)
	if result, err := runAny(t, r); err == nil || result.Renewed != 1 {
		t.Errorf("a leaf without peers is better than none: error %v, result %+v", err, result)
	}
	a.fault = nil
	run(t, r)
	if d, _ := a.document("web"); len(d.Peers) != 1 {
		t.Errorf("%d peers", len(d.Peers))
	}
}

// G2, G9: a datacenter that hangs takes no more than half of the run's time.
func TestADatacenterThatHangsLeavesTimeToRenew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := testFederation(t)
		a.tag("web")
		r := a.registrator(func(c *Config) { c.Consul = hanging{a.world} })
		run(t, a.registrator())
		a.pass(71 * time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if result, err := r.Run(ctx, Scope{}); err == nil || result.Renewed != 1 {
			t.Errorf("error %v, result %+v", err, result)
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("it waited for %v, want half of its time", took)
		}
	})
}

// hanging is a Consul whose dc2 does not answer.
type hanging struct{ *world }

func (h hanging) Services(ctx context.Context, r Realm, node string) (Node, []Instance, error) {
	if r.Datacenter == "dc2" {
		<-ctx.Done()
		return Node{}, nil, ctx.Err()
	}
	return h.world.Services(ctx, r, node)
}

// G7, G8: what the cap or the policy holds back may be a mistake, and is kept alive.
func TestAServiceWhoseDeleteIsHeldKeepsItsLeaf(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"cap":    func(c *Config) { c.MaxDeletes = 1 },
		"policy": func(c *Config) { c.Policy = UpsertOnly },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.tag("web")
			a.tag("db")
			r := a.registrator(change)
			run(t, r)
			clear(a.functions)
			if result, _ := a.days(r); len(result.Left) != 2 {
				t.Errorf("result %+v", result)
			}
			a.alive("web")
			a.alive("db")
		})
	}
}

// G8: the leaf of a service of the predecessor is kept alive even if the tags of its function are wrong. Nothing else of it changes
// but the marks that say whose it is, so that it can be taken out in whole.
func TestAPredecessorsServiceWithABadTagIsKeptAlive(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.set(testNode, Instance{Key: service(t, "web"), ID: "web", Tags: []string{ServiceTag}})
	a.setEntry("web", fmt.Sprintf(`{"Kind":"service-defaults","Name":"web","Protocol":"http","EnvoyExtensions":[
		{"Name":"builtin/aws/lambda","Arguments":{"ARN":"arn:aws:lambda:us-east-1:%s:function:web","PayloadPassthrough":true}}]}`, testOwner.Account))
	a.documents[testPrefix+"/default/default/web"] = storedDocument{version: 3}
	a.tag("web", "namespace", "eu")
	r := a.registrator()
	if result := run(t, r); result.Updated != 1 || !strings.Contains(a.entry("web"), `"PayloadPassthrough":true`) {
		t.Errorf("result %+v, entry %s", result, a.entry("web"))
	}
	if _, err := a.days(r); err != nil {
		t.Error(err)
	}
	a.alive("web")
	delete(a.functions, "web")
	if result := run(t, r); result.Deleted != 1 || a.entry("web") != "" {
		t.Errorf("result %+v, entry %s", result, a.entry("web"))
	}
}

// G5, G8: a service whose meta say that it is ours is ours, with its tag or without.
func TestAServiceWhoseTagWasTakenOffIsRepaired(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	before := a.state()
	i, _ := a.instance("web")
	i.Tags = []string{"canary"}
	a.set(testNode, i)
	if result := run(t, r); result.Updated != 1 || a.state() != before {
		t.Errorf("result %+v\n%s", result, a.state())
	}
}

// G10: Consul takes names that differ in case only for one. Two functions of such names are a user's mistake.
func TestTwoFunctionsWhoseNamesDifferInCaseAreAWarning(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("Foo")
	a.tag("foo")
	r := a.registrator()
	result := run(t, r)
	if result.Created != 1 || result.Warned != 1 || !mentions(result.Warnings, "asked for by function") {
		t.Errorf("result %+v", result)
	}
	quiet(t, r)
	if i, _ := a.instance("foo"); i.Service.Name() != "Foo" {
		t.Errorf("registered as %v", i.Key)
	}
	delete(a.functions, "Foo")
	run(t, r)
	quiet(t, r)
	i, _ := a.instance("foo")
	if d, ok := a.document("foo"); i.Service.Name() != "foo" || !ok || !strings.Contains(a.entry("foo"), ":function:foo") {
		t.Errorf("when the other is gone: %v, document %v, entry %s", i.Key, d, a.entry("foo"))
	}
}

// G1: an alias that is spelled in another case is the same service to Consul, for another ARN.
func TestAnAliasMayBeSpelledInAnotherCase(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("pay", "aliases", "Blue")
	r := a.registrator()
	run(t, r)
	a.tag("pay", "aliases", "blue")
	if result := run(t, r); result.Updated != 1 || len(result.Changed) != 1 || !strings.Contains(a.entry("pay-blue"), ":function:pay:blue") {
		t.Errorf("result %+v, entry %s", result, a.entry("pay-blue"))
	}
	quiet(t, r)
	a.tag("pay")
	if result := run(t, r); result.Deleted != 1 || len(a.entries) != 1 {
		t.Errorf("result %+v", result)
	}
}

// G2: a listing that lags, in a process that remembers nothing, does not bring a function back that is gone, or not tagged any more.
func TestAListingThatLagsBringsNothingBack(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("gone")
	a.tag("off")
	a.tag("db")
	r := a.registrator()
	run(t, r)
	a.stale = map[string]map[string]string{"gone": a.functions["gone"], "off": a.functions["off"], "db": a.functions["db"]}
	delete(a.functions, "gone")
	a.tag("off", "enabled", "false")
	run(t, r, Scope{Functions: []string{"gone", "off"}})
	before := a.state()
	if result := run(t, a.registrator()); result.Created != 0 || a.state() != before {
		t.Errorf("result %+v", result)
	}
}

// G2: the service of an entry with our mark may be in what could not be listed: the entry is not told to be left behind.
func TestAnEntryIsNotCalledLeftBehindWhileItsServicesCannotBeListed(t *testing.T) {
	t.Parallel()
	a := testFederation(t)
	a.tag("web")
	a.tag("far", "datacenter", "dc2")
	r := a.registrator()
	run(t, r)
	a.fail("Services", "dc2")
	if result, err := runAny(t, r); err == nil || mentions(result.Left, "left behind") {
		t.Errorf("error %v, result %+v", err, result)
	}
}
