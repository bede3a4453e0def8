// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

func TestATaggedFunctionIsRegisteredInWhole(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.peers = append(a.peers, certtest.NewCA(t).Peer("east", "west"))
	a.tag("web", "invocation-mode", "ASYNCHRONOUS", "payload-passthrough", "true", "aliases", "prod+dev")
	a.tag("off", "enabled", "false")
	result := run(t, a.registrator())
	if result.Created != 3 || result.Failed+result.Warned+result.Skipped != 0 || result.Enabled != 3 || result.LeafOf != "web" {
		t.Errorf("result %+v", result)
	}
	i, ok := a.instance("web")
	if !ok || !slices.Equal(i.Tags, []string{ServiceTag}) || i.Meta[metaOwner] != testOwner.String() ||
		i.Meta[metaFunction] != "arn:aws:lambda:us-east-1:123456789012:function:web" {
		t.Errorf("instance %+v", i)
	}
	if prod, ok := a.instance("web-prod"); !ok || prod.Meta[metaFunction] != "arn:aws:lambda:us-east-1:123456789012:function:web:prod" {
		t.Errorf("alias %+v", prod)
	}
	doc, ok := a.document("web")
	if !ok || doc.TrustDomain != a.ca.TrustDomain() || doc.RootCertPEM != a.ca.RootsPEM() || len(doc.Peers) != 1 || doc.Peers[0].RemoteName != "west" {
		t.Errorf("document: %v, peers %v", ok, doc.Peers)
	}
	for _, name := range []string{"web-prod", "web-dev"} {
		if _, ok := a.document(name); ok {
			t.Errorf("alias %s has a document", name)
		}
	}
	if n := a.nodes[a.place(Realm{}, testNode, "", "")]; !n.is(nodeMeta) || n.Meta["lambda-aws-us-east-1-123456789012"] == "" {
		t.Errorf("node %+v", n)
	}
}

// Control-plane defect: "ASYNCHRONOUS never takes effect (Consul wants asynchronous)".
func TestTheInvocationModeIsSpelledAsConsulComparesIt(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("slow", "invocation-mode", "ASYNCHRONOUS")
	a.tag("fast", "invocation-mode", "Synchronous")
	run(t, a.registrator())
	for name, want := range map[string]string{"slow": `"InvocationMode":"asynchronous"`, "fast": `"InvocationMode":"synchronous"`} {
		if got := a.entry(name); !strings.Contains(got, want) {
			t.Errorf("%s: %s does not hold %s", name, got, want)
		}
	}
}

// G1. The steady state costs five calls of Consul and writes nothing but the heartbeat (the budget of a quiet run).
func TestASecondRunIsEmpty(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	for i := range 20 {
		a.tag(fmt.Sprintf("f%d", i), "aliases", "prod")
	}
	r := a.registrator()
	run(t, r)
	quiet(t, r)
	a.reset()
	a.pass(10 * time.Minute)
	result := run(t, r)
	if result.Created+result.Updated+result.Renewed+result.Deleted != 0 {
		t.Errorf("second run %+v", result)
	}
	if n := a.count(consulOps...); n != 5 {
		t.Errorf("%d calls of Consul, want 5: %v", n, a.log)
	}
	if n := a.count(awsOps...); n != 2 {
		t.Errorf("%d calls of AWS, want a listing and a page: %v", n, a.log)
	}
	if n := a.count(writeOps...); n != 1 || a.count("PutNode") != 1 {
		t.Errorf("%d writes, want the heartbeat: %v", n, a.log)
	}
}

// G1: what a process remembers decides nothing.
func TestANewProcessHasNothingToDoEither(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web", "aliases", "prod")
	run(t, a.registrator())
	quiet(t, a.registrator())
	a.reset()
	a.pass(time.Minute)
	run(t, a.registrator())
	if n := a.count(consulOps...); n != 6 {
		t.Errorf("%d calls of Consul, want the five and the datacenters: %v", n, a.log)
	}
	if n := a.count("Page"); n != 1 {
		t.Errorf("%d pages: the heartbeat says when the store was last looked at in whole", n)
	}
}

// G2. Control-plane defect: "a throttled GetFunction deregisters a healthy function and deletes its key". Whatever cannot be read,
// nothing is taken away.
func TestNothingIsDeletedForWhatCouldNotBeRead(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"List", "Get", "Datacenters", "Services", "Defaults", "Roots", "Peers", "Page"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.tag("web")
			a.tag("db")
			run(t, a.registrator())
			before := a.state()
			a.stale = map[string]map[string]string{"web": a.functions["web"]} // the listing has lost db
			a.fail(op, "")
			result, err := runAny(t, a.registrator())
			if err == nil {
				t.Error("the run succeeded")
			}
			if result.Deleted != 0 || a.state() != before {
				t.Errorf("deleted %d; state\n%s\nwas\n%s", result.Deleted, a.state(), before)
			}
		})
	}
}

// G2, G11: a listing that lags is confirmed by reading the function.
func TestAFunctionThatTheListingLostIsReadBeforeItIsBelieved(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.reset()
	a.stale = map[string]map[string]string{}
	if result := run(t, r); result.Deleted != 0 || a.count("Get") != 1 {
		t.Errorf("result %+v, %d reads", result, a.count("Get"))
	}
	quiet(t, r)
}

// G11: a listing in parts takes nothing away, and confirms a part of what it does not show in each run, in turn.
func TestAPartOfAListingConfirmsInTurn(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	for i := range 120 {
		a.tag(fmt.Sprintf("f%03d", i))
	}
	r := a.registrator()
	run(t, r)
	a.stale, a.next = map[string]map[string]string{}, "more"
	delete(a.functions, "f110")
	a.reset()
	for n := range 3 {
		result := run(t, r)
		if reads := a.count("Get"); reads != 50*(n+1)+2*result.Deleted { // and twice before the delete
			t.Errorf("%d reads after %d runs", reads, n+1)
		}
		if want := n == 2; (result.Deleted == 1) != want {
			t.Errorf("run %d: deleted %d", n+1, result.Deleted)
		}
	}
}

// G7: the reasons for a delete, each read of the function itself.
func TestADeleteHasAReason(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*account)
		reason string
		left   []string
	}{
		{"function gone", func(a *account) { delete(a.functions, "web") }, "AWS has no such function", nil},
		{"tag gone", func(a *account) { a.functions["web"] = nil }, "it has no tag", nil},
		{"tag off", func(a *account) { a.tag("web", "enabled", "false") }, `enabled is "false"`, nil},
		{"alias dropped", func(a *account) { a.tag("web", "aliases", "dev") }, "does not name prod any more", []string{"web", "web-dev"}},
		{"moved", func(a *account) { a.tag("web", "datacenter", "dc2", "aliases", "prod") }, "it moved from web-prod to web-prod (dc2)",
			[]string{"web", "web-prod"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := testFederation(t)
			a.tag("web", "aliases", "prod")
			r := a.registrator()
			run(t, r)
			test.change(a)
			p, err := r.Plan(context.Background(), Scope{})
			if err != nil || !strings.Contains(p.String(), test.reason) {
				t.Errorf("error %v, plan\n%s", err, p)
			}
			run(t, r)
			quiet(t, r)
			var left []string
			for _, i := range a.instances {
				left = append(left, i.Service.Name())
			}
			if slices.Sort(left); !slices.Equal(left, test.left) {
				t.Errorf("left %v, want %v", left, test.left)
			}
			if len(a.entries) != len(test.left) {
				t.Errorf("%d service-defaults, want %d", len(a.entries), len(test.left))
			}
			if len(test.left) == 0 && len(a.documents) != 0 {
				t.Errorf("documents %v", a.documents)
			}
		})
	}
}

// G7: deletes are bounded, and above the bound none is made.
func TestTooManyDeletesAreNone(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tagMany(10)
	run(t, a.registrator())
	before := a.state()
	for i := range 6 {
		a.functions[fmt.Sprintf("f%d", i)] = nil
	}
	a.tag("new")
	result, err := runAny(t, a.registrator())
	if !errors.Is(err, ErrDeletes) || !strings.Contains(err.Error(), "f3") || result.Deleted != 0 || result.Skipped != 6 || result.Created != 1 {
		t.Errorf("error %v, result %+v", err, result)
	}
	if !strings.Contains(a.state(), strings.Split(before, "\n")[0]) {
		t.Error("something was taken out")
	}
	result = run(t, a.registrator(func(c *Config) { c.MaxDeletes = 6 }))
	if result.Deleted != 6 {
		t.Errorf("with a higher cap %+v", result)
	}
}

func TestThePolicyHoldsWhatItForbids(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("old")
	run(t, a.registrator())
	delete(a.functions, "old")
	a.tag("new")
	before := a.state()

	a.reset()
	result := run(t, a.registrator(func(c *Config) { c.Policy = DryRun }))
	if n := a.count(writeOps...); n != 0 || result.Plan == nil || len(result.Plan.Changes) != 2 || a.state() != before {
		t.Errorf("dry run wrote %d times: %+v", n, result)
	}
	result = run(t, a.registrator(), Scope{DryRun: true})
	if n := a.count(writeOps...); n != 0 || result.Plan == nil {
		t.Errorf("dry-run event wrote %d times", n)
	}
	result = run(t, a.registrator(func(c *Config) { c.Policy = UpsertOnly }))
	if result.Created != 1 || result.Deleted != 0 || result.Skipped != 1 {
		t.Errorf("upsert-only %+v", result)
	}
	if _, ok := a.instance("old"); !ok {
		t.Error("upsert-only deleted")
	}
}

// G5. Two accounts, one Consul, one node name, the same function names.
func TestTwoAccountsOnOneNodeLeaveEachOtherAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	a, b := newAccount(w, testOwner), newAccount(w, otherOwner)
	a.tag("web")
	a.tag("a-only")
	b.tag("web")
	b.tag("b-only")
	ra, rb := a.registrator(), b.registrator()
	run(t, ra)
	result := run(t, rb)
	if result.Created != 1 || !mentions(result.Warnings, "aws:us-east-1:123456789012") {
		t.Errorf("second account %+v", result)
	}
	before, _ := w.instance("web")
	quiet(t, ra)
	delete(b.functions, "web")
	delete(b.functions, "b-only")
	run(t, rb)
	if after, ok := w.instance("web"); !ok || after.Index != before.Index {
		t.Error("the second account touched what the first one owns")
	}
	if _, ok := w.instance("b-only"); ok {
		t.Error("the second account did not take its own out")
	}
	quiet(t, ra)
	n := w.nodes[w.place(Realm{}, testNode, "", "")]
	if n.Meta[heartbeatKey(testOwner)] == "" || n.Meta[heartbeatKey(otherOwner)] == "" {
		t.Errorf("heartbeats %v", n.Meta)
	}
}

// Control-plane defect: "an event for any untagged function deletes the service-defaults of that name, whoever owns it". G5.
func TestAnUntaggedFunctionTouchesNothingOfItsName(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.setEntry("web", `{"Kind":"service-defaults","Name":"web","Protocol":"grpc"}`)
	a.set("other-node", Instance{Key: service(t, "web"), ID: "web"})
	a.functions["web"] = map[string]string{}
	before := a.state()
	run(t, a.registrator(), Scope{Functions: []string{"web"}})
	delete(a.functions, "web")
	run(t, a.registrator(), Scope{Functions: []string{"web"}})
	run(t, a.registrator())
	if a.state() != before {
		t.Errorf("state\n%s\nwas\n%s", a.state(), before)
	}
}

// G5, G6: the table of calculate, for a function that asks for the name "web".
func TestWhatStandsInTheWayOfAName(t *testing.T) {
	t.Parallel()
	const (
		mine   = `"EnvoyExtensions":[{"Name":"builtin/aws/lambda","Arguments":{"ARN":"arn:aws:lambda:us-east-1:123456789012:function:web"}}]`
		theirs = `"EnvoyExtensions":[{"Name":"builtin/aws/lambda","Arguments":{"ARN":"arn:aws:lambda:us-east-1:210987654321:function:web"}}]`
	)
	entry := func(fields string) string { return `{"Kind":"service-defaults","Name":"web",` + fields + `}` }
	ours := Instance{ID: "web", Tags: []string{ServiceTag}, Meta: map[string]string{
		metaOwner: testOwner.String(), metaFunction: "arn:aws:lambda:us-east-1:123456789012:function:web"}}
	legacy := Instance{ID: "web", Tags: []string{ServiceTag}}
	foreign := Instance{ID: "web"}
	tests := []struct {
		name      string
		instance  *Instance
		entry     string
		elsewhere bool
		want      string // "": it is registered
	}{
		{"nothing", nil, "", false, ""},
		{"nothing, plain entry", nil, entry(`"Protocol":""`), false, ""},
		{"nothing, plain http entry", nil, entry(`"Protocol":"http"`), false, ""},
		{"nothing, plain grpc entry", nil, entry(`"Protocol":"grpc"`), false, `protocol "grpc"`},
		{"nothing, unmarked entry for our function", nil, entry(mine), false, "did not put there"},
		{"nothing, entry for their function", nil, entry(theirs), false, "somebody else"},
		{"nothing, an entry that another registrator began", nil, entry(`"Meta":{"lambda-owner":"aws:us-east-1:210987654321"}`), false, "somebody else"},
		{"nothing, an entry that is no object", nil, `[]`, false, "not a JSON object"},
		{"nothing, taken elsewhere", nil, "", true, "registered on another node"},
		{"ours", &ours, "", false, ""},
		{"ours, unmarked entry", &ours, entry(mine), false, ""},
		{"ours, plain entry", &ours, entry(`"Protocol":"http"`), false, ""},
		{"ours, plain tcp entry", &ours, entry(`"Protocol":"tcp"`), false, `protocol "tcp"`},
		{"ours, entry for their function", &ours, entry(theirs), false, "somebody else"},
		{"ours, plain entry, also elsewhere", &ours, entry(`"Protocol":"http"`), true, "somebody's"},
		{"ours, also elsewhere", &ours, "", true, ""},
		{"the predecessor's", &legacy, entry(`"Protocol":"http",` + mine), false, ""},
		{"the predecessor's, of another account", &legacy, entry(`"Protocol":"http",` + theirs), false, "do not say that it is ours"},
		{"the predecessor's, no entry", &legacy, "", false, "do not say that it is ours"},
		{"somebody's", &foreign, "", false, "somebody else has registered"},
		{"somebody's with an entry for our function", &foreign, entry(mine), false, "somebody else has registered"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.tag("web")
			if test.instance != nil {
				i := *test.instance
				i.Key = service(t, "web")
				a.set(testNode, i)
			}
			if test.entry != "" {
				a.setEntry("web", test.entry)
			}
			if test.elsewhere {
				a.set("other-node", Instance{Key: service(t, "web"), ID: "web"})
			}
			before := a.state()
			r := a.registrator()
			result := run(t, r)
			if test.want != "" {
				if !mentions(result.Warnings, test.want) || len(result.Changed) > 1 || a.state() != before {
					t.Errorf("warnings %v, changed %v", result.Warnings, result.Changed)
				}
				return
			}
			if i, _ := a.instance("web"); i.Meta[metaOwner] != testOwner.String() || result.Warned != 0 {
				t.Errorf("not registered: %+v", result)
			}
			quiet(t, r)
		})
	}
}

// G5: what was the predecessor's goes in whole when its function goes.
func TestWhatIsAdoptedIsTakenOutInWhole(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.set(testNode, Instance{Key: service(t, "web"), ID: "web", Tags: []string{ServiceTag}})
	a.setEntry("web", `{"Kind":"service-defaults","Name":"web","Protocol":"http","TransparentProxy":{},"EnvoyExtensions":[
		{"Name":"builtin/aws/lambda","Required":false,"Arguments":{"ARN":"arn:aws:lambda:us-east-1:123456789012:function:web","InvocationMode":"SYNCHRONOUS"}}]}`)
	a.documents[testPrefix+"/default/default/web"] = storedDocument{version: 3}
	result := run(t, a.registrator())
	if result.Deleted != 1 || len(a.instances)+len(a.entries)+len(a.documents) != 0 {
		t.Errorf("result %+v, left %s", result, a.state())
	}
}

// G5: the machine of somebody is not made a node for Lambda functions.
func TestANodeThatIsAMachineIsLeftAlone(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	a.nodes[a.place(Realm{}, testNode, "", "")] = Node{Name: testNode, Meta: map[string]string{"rack": "7"}, Index: 4}
	result, err := runAny(t, a.registrator())
	if err == nil || !strings.Contains(err.Error(), "external-node") || a.count(writeOps...) != 0 {
		t.Errorf("error %v, result %+v, writes %d", err, result, a.count(writeOps...))
	}
}

// G5: functions of another account are refused before anything is written.
func TestFunctionsOfAnotherAccountAreRefused(t *testing.T) {
	t.Parallel()
	a := newAccount(newWorld(t, 0), otherOwner)
	a.tag("web")
	r := a.registrator(func(c *Config) { c.Owner = testOwner })
	for _, scope := range []Scope{{}, {Functions: []string{"web"}}} {
		if _, err := r.Run(t.Context(), scope); !errors.Is(err, ErrOwner) || a.count(writeOps...) != 0 {
			t.Errorf("error %v", err)
		}
		if _, err := r.Plan(t.Context(), scope); !errors.Is(err, ErrOwner) {
			t.Errorf("plan: error %v", err)
		}
	}
}

// Control-plane defect: "drift of a registered service is never repaired". G4.
func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*account){
		"tags": func(a *account) { i, _ := a.instance("web"); i.Tags = append(i.Tags, "x"); a.set(testNode, i) },
		"function": func(a *account) {
			i, _ := a.instance("web")
			i.Meta = maps.Clone(i.Meta)
			i.Meta[metaFunction] = ""
			a.set(testNode, i)
		},
		"mode": func(a *account) {
			a.setEntry("web", strings.Replace(a.entry("web"), `"synchronous"`, `"ASYNCHRONOUS"`, 1))
		},
		"protocol":       func(a *account) { a.setEntry("web", strings.Replace(a.entry("web"), `"http"`, `"tcp"`, 1)) },
		"entry":          func(a *account) { delete(a.entries, service(a, "web").fold()) },
		"service":        func(a *account) { i, _ := a.instance("web"); _ = a.DeleteService(context.Background(), testNode, i) },
		"document":       func(a *account) { delete(a.documents, testPrefix+"/default/default/web") },
		"other document": func(a *account) { a.documents[testPrefix+"/default/default/web"] = storedDocument{version: 9} },
		"peers":          func(a *account) { a.peers = append(a.peers, certtest.NewCA(a).Peer("east", "west")) },
		"roots":          func(a *account) { a.ca.Rotate(a) },
		"tag":            func(a *account) { a.tag("web", "payload-passthrough", "true") },
	}
	for name, drift := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.tag("web")
			r := a.registrator()
			run(t, r)
			a.pass(time.Hour)
			drift(a)
			if result := run(t, r); result.Created+result.Updated+result.Renewed != 1 {
				t.Errorf("result %+v", result)
			}
			quiet(t, r)
			doc, ok := a.document("web")
			if !ok || doc.RootCertPEM != a.ca.RootsPEM() || len(doc.Peers) != len(a.peers) {
				t.Error("the document is not as it should be")
			}
			a.state()
		})
	}
}

// Control-plane defect: "one bad tag stops the whole run". G10.
func TestOneBadTagStopsNothingElse(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("bad", "aliases", "prod")
	a.tag("good")
	r := a.registrator()
	run(t, r)
	before := a.state()
	a.tag("bad", "invocation-mode", "sometimes")
	a.tag("new")
	result := run(t, r)
	if result.Created != 1 || result.Deleted != 0 || !mentions(result.Warnings, "invocation-mode") || !mentions(result.Warnings, "SYNCHRONOUS or ASYNCHRONOUS") {
		t.Errorf("result %+v", result)
	}
	for _, line := range strings.Split(before, "\n") {
		if !strings.Contains(a.state(), line) {
			t.Errorf("lost: %s", line)
		}
	}
	// What it has registered is kept alive all the same.
	a.pass(70 * time.Hour)
	run(t, r)
	if i, _ := a.instance("bad"); readStored(i.Meta).notAfter.Before(a.time().Add(71 * time.Hour)) {
		t.Error("its leaf was not renewed")
	}
}

// Control-plane defect: "DeleteFunction events are ignored". G12.
func TestADeleteEventDeletes(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	a.tag("db")
	r := a.registrator()
	run(t, r)
	stale := maps.Clone(a.functions)
	delete(a.functions, "web")
	scope, err := ParseEvent([]byte(`{"source":"aws.lambda","detail-type":"AWS API Call via CloudTrail","detail":{
		"eventName":"DeleteFunction20150331","requestParameters":{"functionName":"web"},"responseElements":null}}`), testOwner)
	if err != nil {
		t.Fatal(err)
	}
	a.reset()
	if result := run(t, r, scope); result.Deleted != 1 || a.count("Get") != 3 || a.count("List", "Page", "PutNode") != 0 {
		t.Errorf("result %+v, calls %v", result, a.log)
	}
	if _, ok := a.instance("db"); !ok {
		t.Error("another function was touched")
	}
	// The listing may show it for a while: it is not made again.
	a.stale = stale
	if result := run(t, r); result.Created != 0 {
		t.Errorf("a listing that lags brought it back: %+v", result)
	}
}

// Control-plane defect: "only the active CA root is stored". G8.
func TestARotationStoresAllRootsAtOnce(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.ca.Rotate(t)
	if result := run(t, r); result.Renewed != 1 {
		t.Errorf("result %+v", result)
	}
	doc, _ := a.document("web")
	if n := strings.Count(doc.RootCertPEM, "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("%d roots", n)
	}
	quiet(t, r)
}

// G8: what would not work is not written.
func TestALeafIsCheckedBeforeItIsStored(t *testing.T) {
	t.Parallel()
	for _, flaw := range meshsim.Flaws() {
		if flaw == meshsim.NoURI || flaw == meshsim.TwoURIs || flaw == meshsim.Expired || flaw == meshsim.NotYetValid ||
			flaw == meshsim.ForeignCA || flaw == meshsim.MismatchedKey || flaw == meshsim.OtherIdentity || flaw == meshsim.WrongUsage {
			t.Run(fmt.Sprint(flaw), func(t *testing.T) {
				t.Parallel()
				a := testAccount(t)
				a.tag("web")
				bad := a.ca.BadLeaf(t, a.ca.ID(t, certtest.Service(t, "web")), flaw)
				a.badLeaf = func(l Leaf) Leaf { l.CertPEM, l.PrivateKeyPEM = bad.CertPEM, bad.KeyPEM; return l }
				result, err := runAny(t, a.registrator())
				if err == nil || len(a.documents) != 0 || result.Failed != 1 {
					t.Errorf("error %v, documents %d", err, len(a.documents))
				}
				if strings.Contains(fmt.Sprint(err), "BEGIN") {
					t.Error("the error shows key material")
				}
				// It can be called meanwhile, and is healed when Consul is.
				if _, ok := a.instance("web"); !ok {
					t.Error("the function is not registered")
				}
				a.badLeaf = nil
				run(t, a.registrator())
				quiet(t, a.registrator())
			})
		}
	}
}

// DESIGN 3.2: a document above what a parameter holds names the service.
func TestADocumentThatIsTooLargeIsAnError(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	for i := range 12 {
		a.peers = append(a.peers, certtest.NewCA(t).Peer(fmt.Sprintf("peer%d", i), "us"))
	}
	_, err := runAny(t, a.registrator())
	if err == nil || !strings.Contains(err.Error(), "8192") || !strings.Contains(err.Error(), "web") || len(a.documents) != 0 {
		t.Errorf("error %v", err)
	}
}

// The datacenter of a registrator, and of a function.
func TestDatacenters(t *testing.T) {
	t.Parallel()
	a := testFederation(t)
	a.tag("local")
	a.tag("same", "datacenter", "dc1")
	a.tag("remote", "datacenter", "dc2")
	a.tag("nowhere", "datacenter", "dc9")
	r := a.registrator()
	result := run(t, r)
	if result.Created != 3 || !mentions(result.Warnings, "dc9") || !mentions(result.Warnings, "only Consul in dc2") {
		t.Errorf("result %+v", result)
	}
	if _, ok := a.document("remote"); ok {
		t.Error("a service of another datacenter has a document")
	}
	quiet(t, r)

	// One that keeps dc1 only has nothing to do with the others.
	one := a.registrator(func(c *Config) { c.Datacenter = "dc1" })
	a.reset()
	run(t, one)
	if a.count("Services") != 1 || a.count(writeOps...) != 1 {
		t.Errorf("calls %v", a.log)
	}
	a.tag("local", "datacenter", "dc2")
	if p, err := one.Plan(t.Context(), Scope{}); err != nil || !strings.Contains(p.String(), "it moved to datacenter dc2") || len(p.Changes) != 1 {
		t.Errorf("error %v, plan\n%v", err, p)
	}
	if _, err := a.registrator(func(c *Config) { c.Datacenter = "dc7" }).Run(t.Context(), Scope{}); err == nil || !strings.Contains(err.Error(), "dc7") {
		t.Errorf("error %v", err)
	}
}

func TestEnterpriseNames(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web", "namespace", "eu", "partition", "apps")
	if result := run(t, a.registrator()); result.Created != 0 || !mentions(result.Warnings, "Enterprise") {
		t.Errorf("without Enterprise %+v", result)
	}
	r := a.registrator(func(c *Config) { c.Enterprise, c.Partitions = true, []string{"default", "apps"} })
	run(t, r)
	quiet(t, r)
	if _, ok := a.documents[testPrefix+"/apps/eu/web"]; !ok {
		t.Errorf("documents %v", slices.Collect(maps.Keys(a.documents)))
	}
	other := a.registrator(func(c *Config) { c.Enterprise, c.Partitions = true, []string{"other"} })
	if result := run(t, other); result.Deleted+result.Created != 0 || !mentions(result.Warnings, "other") {
		t.Errorf("another partition's registrator %+v", result)
	}
}

// Two functions that ask for one name: the one that has it keeps it; when it lets go the other gets it.
func TestTwoFunctionsThatAskForOneName(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web", "aliases", "prod")
	r := a.registrator()
	run(t, r)
	a.tag("web-prod")
	result := run(t, r)
	if i, _ := a.instance("web-prod"); !strings.HasSuffix(i.Meta[metaFunction], "function:web:prod") || !mentions(result.Warnings, "function web, which gets it") {
		t.Errorf("the one that had it lost it: %+v %+v", i, result)
	}
	run(t, r, Scope{Functions: []string{"web-prod"}})
	if i, _ := a.instance("web-prod"); !strings.HasSuffix(i.Meta[metaFunction], "function:web:prod") {
		t.Errorf("an event took the name: %+v", i)
	}
	a.tag("web")
	run(t, r)
	if i, _ := a.instance("web-prod"); !strings.HasSuffix(i.Meta[metaFunction], "function:web-prod") {
		t.Errorf("it was not handed on: %+v", i)
	}
	quiet(t, r)
}

// Documents without a service: the whole look takes those that a registrator wrote for a function that is gone.
func TestStrayDocuments(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	at := func(name string) string { return testPrefix + "/default/default/" + name }
	a.documents[at("gone")] = storedDocument{version: 1, ours: true}
	a.documents[at("theirs")] = storedDocument{version: 1}
	a.documents[at("moved")] = storedDocument{version: 1, ours: true}
	a.documents[testPrefix+"/note"] = storedDocument{version: 1, ours: true}
	a.tag("moved", "datacenter", "dc2")
	r := a.registrator(func(c *Config) { c.Datacenter = "dc1" })
	result := run(t, r)
	if result.Deleted != 1 || !mentions(result.Warnings, at("theirs")) || len(a.documents) != 3 {
		t.Errorf("result %+v, documents %v", result, a.documents)
	}
	a.documents[at("gone")] = storedDocument{version: 1, ours: true}
	a.pass(time.Hour)
	if result := run(t, r); result.Deleted != 0 {
		t.Error("a page is not a whole look")
	}
	a.pass(lookEvery)
	if result := run(t, r); result.Deleted != 1 {
		t.Errorf("six hours later %+v", result)
	}
}

// G4: the rotation through the store's pages notices what is gone once it has seen all of them.
func TestTheRotationSeesADocumentThatIsGone(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.pageSize = 2
	a.tagMany(5)
	r := a.registrator()
	run(t, r)
	a.pass(10 * time.Minute)
	delete(a.documents, testPrefix+"/default/default/f4")
	a.reset()
	var renewed int
	for range 4 {
		a.pass(10 * time.Minute)
		renewed += run(t, r).Renewed
	}
	if renewed != 1 || a.count("Page") != 4 {
		t.Errorf("renewed %d after %d pages", renewed, a.count("Page"))
	}
}

// G9: nothing is begun shortly before the deadline, and what is left is said.
func TestARunStopsBeforeItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testDeadline)
}

func testDeadline(t *testing.T) {
	t.Helper()
	a := testAccount(t)
	a.tagMany(30)
	r := a.registrator(func(c *Config) { c.PutsPerSecond, c.Concurrency = 20, 2 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	result, err := r.Run(ctx, Scope{})
	if err != nil || ctx.Err() != nil {
		t.Fatalf("error %v, context %v", err, ctx.Err())
	}
	if result.Skipped == 0 || result.Created == 0 || len(a.documents) == 0 || !mentions(result.Left, "no time left") {
		t.Errorf("created %d, left %d", result.Created, result.Skipped)
	}
	a.state()
	run(t, a.registrator())
	quiet(t, a.registrator())
}

// G9: the same where calls are slow, in virtual time.
func TestNothingIsBegunInTheLastMoments(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := testAccount(t)
		a.tagMany(100)
		slow := 2 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := a.registrator(func(c *Config) { c.DataPrefix, c.Concurrency = "", 1 })
		a.fault = func(op, _ string) (error, error) {
			if op == "PutDefaults" {
				a.mu.Unlock() // begin holds it
				time.Sleep(slow)
				a.mu.Lock()
			}
			return nil, nil
		}
		result, err := r.Run(ctx, Scope{})
		if err != nil || result.Created != 25 || result.Skipped != 75 {
			t.Errorf("in 50 s of 60 at 2 s each: created %d, left %d, error %v", result.Created, result.Skipped, err)
		}
	})
}

// A service that cannot be registered where it has moved to stays where it was.
func TestAServiceThatCannotMoveStays(t *testing.T) {
	t.Parallel()
	a := testFederation(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.tag("web", "datacenter", "dc2")
	taken := service(t, "web")
	taken.Datacenter = "dc2"
	a.set("other-node", Instance{Key: taken, ID: "web"})
	if result := run(t, r); result.Deleted != 0 || !mentions(result.Warnings, "another node") {
		t.Errorf("result %+v", result)
	}
}

// G5: Consul tells instances of a node apart by their ID, whatever its case, which somebody's may have under another name.
func TestAnIDThatSomebodyHasIsAConflict(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"web", "WEB"} {
		a := testAccount(t)
		a.tag("web")
		a.set(testNode, Instance{Key: service(t, "api"), ID: id})
		if result := run(t, a.registrator()); result.Created != 0 || !mentions(result.Warnings, "service api has that ID") {
			t.Errorf("with ID %s: result %+v", id, result)
		}
	}
}

// A listing of the store that lags behind a write is no reason to write again.
func TestAYoungDocumentIsNotJudged(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := look{seen: map[string]Stored{"/p": {Path: "/p", Version: 1}}, from: now, whole: true}
	for age, want := range map[time.Duration]bool{time.Minute: false, settle: false, settle + time.Second: true} {
		for _, path := range []string{"/p", "/gone"} {
			if got := l.lost(path, stored{version: 2, written: now.Add(-age)}); (got != "") != want {
				t.Errorf("%s, written %v ago: %q", path, age, got)
			}
		}
	}
}

// A delete that did not get to its end makes the next process look at the whole store, too.
func TestAnUnfinishedDeleteIsFinishedByTheNextProcess(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	run(t, a.registrator())
	delete(a.functions, "web")
	a.fail("Delete", "")
	if _, err := runAny(t, a.registrator()); err == nil {
		t.Error("nobody was told")
	}
	a.fault = nil
	a.pass(time.Minute)
	if result := run(t, a.registrator()); result.Deleted != 1 || len(a.documents) != 0 {
		t.Errorf("result %+v, documents %v", result, a.documents)
	}
}

// G9: what would fail first comes first, deletes last.
func TestThePlanIsInTheOrderOfUrgency(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	for _, name := range []string{"dying", "ageing", "drifted", "gone"} {
		a.tag(name)
	}
	r := a.registrator()
	run(t, r)
	a.pass(2 * askEvery)
	age := func(name string, from, until time.Duration) {
		i, _ := a.instance(name)
		i.Meta = maps.Clone(i.Meta)
		i.Meta[metaNotBefore], i.Meta[metaNotAfter] = a.now.Add(from).UTC().Format(time.RFC3339), a.now.Add(until).UTC().Format(time.RFC3339)
		a.set(testNode, i)
	}
	age("dying", -71*time.Hour, 20*time.Minute)
	age("ageing", -50*time.Hour, 22*time.Hour)
	i, _ := a.instance("drifted")
	i.Tags = []string{ServiceTag, "x"}
	a.set(testNode, i)
	delete(a.functions, "gone")
	a.tag("new")
	p, err := r.Plan(t.Context(), Scope{})
	var got []string
	for _, c := range p.Changes {
		got = append(got, string(c.Kind)+" "+c.Name)
	}
	want := []string{"renew dying", "create new", "update drifted", "renew ageing", "delete gone"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("error %v, plan %q, want %q", err, got, want)
	}
	a.reset()
	run(t, a.registrator(func(c *Config) { c.Concurrency = 1 }))
	lastPut, firstDelete := -1, len(a.log)
	for n, call := range a.log {
		switch op, _, _ := strings.Cut(call, " "); op {
		case "PutService":
			lastPut = n
		case "DeleteService", "DeleteDefaults", "Delete":
			firstDelete = min(firstDelete, n)
		}
	}
	if lastPut > firstDelete || a.log[len(a.log)-2] != "Delete "+testPrefix+"/default/default/gone" {
		t.Errorf("order of calls %q", a.log)
	}
}

// The heartbeat is a warning if it cannot be written, and survives a race.
func TestTheHeartbeat(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator(func(c *Config) { c.By = strings.Repeat("<b>", 300) })
	run(t, r)
	lost := 1
	a.fault = func(op, _ string) (error, error) {
		if op == "PutNode" && lost > 0 {
			lost--
			return ErrConflict, nil
		}
		return nil, nil
	}
	if result := run(t, r); result.Warned != 0 {
		t.Errorf("one lost race: %+v", result)
	}
	lost = 100
	if result := run(t, r); !mentions(result.Warnings, "heartbeat") {
		t.Errorf("result %+v", result)
	}
	var h map[string]any
	if err := json.Unmarshal([]byte(a.nodes[a.place(Realm{}, testNode, "", "")].Meta[heartbeatKey(testOwner)]), &h); err != nil || h["enabled"] != 1.0 || h["leafLeft"] == nil {
		t.Errorf("heartbeat %v, error %v", h, err)
	}
}

func TestAConfigurationIsRefusedInWhole(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Node: " x", Partitions: []string{"apps"}, DataPrefix: "consul", Policy: 7, MaxDeletes: -1, Schedule: -1})
	for _, field := range []string{"Owner", "Node", "Partitions", "DataPrefix", "Documents", "Policy", "MaxDeletes", "Schedule", "Functions", "Consul"} {
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), field) {
			t.Errorf("%q does not name %s", err, field)
		}
	}
}

func TestTheResultIsJSONAndOneLine(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	var log strings.Builder
	a.tag("web")
	result := run(t, a.registrator(func(c *Config) { c.Log = slog.New(slog.NewJSONHandler(&log, nil)) }))
	raw, err := json.Marshal(result)
	if err != nil || !strings.Contains(string(raw), `"created":1`) || !strings.Contains(string(raw), `"leafLeft":"7`) {
		t.Errorf("%s, error %v", raw, err)
	}
	if !strings.Contains(log.String(), `"msg":"run finished","result":{"created":1,`) || strings.Contains(log.String(), "BEGIN") {
		t.Errorf("log %s", log.String())
	}
}

// peeringsDenied is a Consul whose token may not see peerings.
type peeringsDenied struct{ *world }

func (d peeringsDenied) Peers(ctx context.Context, partition string) ([]mesh.DocumentPeer, error) {
	_, err := d.world.Peers(ctx, partition)
	return nil, errors.Join(err, ErrDenied)
}

// The predecessor's token may not see peerings, and its users need none. Consul takes its time for the refusal.
func TestATokenThatMayNotSeePeeringsRegistersFunctionsAllTheSame(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator(func(c *Config) { c.Consul = peeringsDenied{a.world} })
	if result := run(t, r); result.Created != 1 {
		t.Errorf("result %+v", result)
	}
	run(t, r)
	if n := a.calls["Peers"]; n != 1 {
		t.Errorf("peerings were asked for %d times in two runs", n)
	}
	a.pass(lookEvery)
	run(t, r)
	if n := a.calls["Peers"]; n != 2 {
		t.Errorf("peerings were asked for %d times, the last time after six hours", n)
	}
}

// A federation has one service-defaults entry of a name for all datacenters: what is ours in one must not look left behind in another.
func TestAFunctionInOneDatacenterKeepsItsEntryWhileAnotherIsLookedAt(t *testing.T) {
	t.Parallel()
	a := testFederation(t)
	a.tag("checkout")
	a.tag("reports", "datacenter", "dc2")
	r := a.registrator()
	if result := run(t, r); result.Created != 2 || result.Failed != 0 {
		t.Fatalf("result %+v", result)
	}
	for range 3 {
		quiet(t, r)
		if result := run(t, r); len(result.Changed) != 0 {
			t.Errorf("changed %v", result.Changed)
		}
	}
	if a.entry("checkout") == "" || a.entry("reports") == "" {
		t.Error("an entry is gone")
	}

	a.tag("checkout", "datacenter", "dc2") // it moves
	for range 2 {
		run(t, r)
	}
	quiet(t, r)
	if _, ok := a.instance("checkout"); ok || a.entry("checkout") == "" {
		t.Errorf("after the move: still in dc1 %v, entry %q", ok, a.entry("checkout"))
	}
	a.tag("checkout", "enabled", "false")
	a.tag("reports", "enabled", "false")
	run(t, r)
	if len(a.entries) != 0 {
		t.Errorf("entries are left: %v", a.entries)
	}
}
