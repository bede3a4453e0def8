// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// otherwise is a Lambda that answers as the account's does, until some call of Get.
type otherwise struct {
	functionsPort
	from int // the first call that get answers
	get  func(name string) (Function, error)
}

func (o *otherwise) Get(ctx context.Context, name string) (Function, error) {
	if o.from--; o.from > 0 {
		return o.functionsPort.Get(ctx, name)
	}
	return o.get(name)
}

// only is a run about one function.
func only(name string) Scope { return Scope{Functions: []string{name}} }

// unwritten demands that nothing was written since the last reset.
func (a *account) unwritten() {
	a.Helper()
	if n := a.count(writeOps...); n != 0 {
		a.Errorf("%d writes: %v", n, a.log)
	}
}

// G2: without the datacenters, the roots, or any part of Consul there is nothing to go on with.
func TestNothingIsDoneWithoutWhatEverythingRestsOn(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*account, *Config){
		"no datacenter":     func(a *account, _ *Config) { a.dcs = nil },
		"no root":           func(a *account, c *Config) { c.Consul = rootless{a.world} },
		"no part of Consul": func(a *account, _ *Config) { a.fail("Services", "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.tag("web")
			_, err := runAny(t, a.registrator(func(c *Config) { change(a, c) }))
			if !errors.Is(err, ErrObserve) {
				t.Errorf("error %v", err)
			}
			a.unwritten()
			if n := a.count("Page"); n != 0 {
				t.Errorf("the store was looked at %d times", n)
			}
		})
	}
}

// rootless is a Consul whose mesh is off.
type rootless struct{ *world }

func (rootless) Roots(context.Context) (Roots, error) { return Roots{}, nil }

// G2: what was read of a part of Consul that was not read in whole is not used.
func TestAPartOfConsulOfWhichOneListingFailsIsLeftOutInWhole(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.dcs = []string{"dc1", "dc2"}
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.pass(71 * time.Hour)
	a.reset()
	a.fault = func(op, detail string) (error, error) {
		if op == "Defaults" && detail == (Realm{}).String() {
			return errInjected, nil
		}
		return nil, nil
	}
	if result, err := runAny(t, r); err == nil || len(result.Changed) != 0 || a.count("Leaf") != 0 {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// G2: when AWS cannot be asked for all functions, it is not asked for each.
func TestNoFunctionIsAskedForWhenTheListingFails(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.fail("List", "")
	a.reset()
	if _, err := runAny(t, r); err == nil || a.count("Get") != 0 {
		t.Errorf("error %v, %d functions were asked for", err, a.count("Get"))
	}
}

// G2, G11: the last part of a listing shows no more than the first: what it lacks is read in turn.
func TestTheLastPartOfAListingIsAPart(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	for i := range confirmBudget + 10 {
		a.tag(fmt.Sprintf("f%02d", i))
	}
	r := a.registrator()
	run(t, r)
	a.stale, a.next = map[string]map[string]string{}, "f30"
	run(t, r)
	a.next = ""
	a.reset()
	if run(t, r); a.count("Get") != confirmBudget || !slices.Contains(a.log, "List f30") {
		t.Errorf("%d functions were read: %v", a.count("Get"), a.log)
	}
}

// G2, G7: of a function that could not be read, or whose tags are wrong, nothing is planned to be deleted, whatever is looked at
// again before a delete.
func TestNoDeleteIsPlannedForAFunctionThatIsNotKnown(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*account){
		"not read":   func(a *account) { a.fail("Get", "") },
		"wrong tags": func(a *account) { a.tag("web", "namespace", "eu") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.tag("web")
			r := a.registrator()
			run(t, r)
			change(a)
			p, err := r.Plan(t.Context(), only("web"))
			if err != nil || !p.Empty() || len(p.Failures)+len(p.Warnings) != 1 {
				t.Errorf("error %v, plan\n%v", err, p)
			}
		})
	}
}

// G10: one function that cannot be read stops no other.
func TestAnEventsFunctionThatCannotBeReadStopsNoOther(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	a.tag("db")
	a.fail("Get", "db")
	if result, err := runAny(t, a.registrator(), Scope{Functions: []string{"web", "db"}}); !errors.Is(err, ErrFailed) || result.Created != 1 {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// G2, G5: an answer about another function, or another account's, says nothing of the one that was asked for, now or just before a
// delete.
func TestAnAnswerAboutAnotherFunctionDeletesNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		owner Owner
		name  string
		from  int
	}{
		"another function":                        {testOwner, "db", 1},
		"another account's, just before a delete": {otherOwner, "web", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.tag("web")
			run(t, a.registrator())
			if test.from > 1 {
				a.tag("web", "enabled", "false")
			}
			a.reset()
			port := &otherwise{functionsPort: functionsPort{a}, from: test.from, get: func(string) (Function, error) {
				return function(t, test.owner, test.name, nil), nil
			}}
			result, err := runAny(t, a.registrator(func(c *Config) { c.Functions = port }), only("web"))
			if err == nil || result.Deleted != 0 {
				t.Errorf("error %v, result %+v", err, result)
			}
			a.unwritten()
		})
	}
}

// G2: for 15 minutes a listing does not undo what a function, read by itself, has shown. After that it is believed.
func TestAListingThatLagsUndoesNoChangeOfTags(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.stale = map[string]map[string]string{"web": a.functions["web"]}
	a.tag("web", "invocation-mode", "asynchronous")
	if result := run(t, r, only("web")); result.Updated != 1 {
		t.Fatalf("result %+v", result)
	}
	a.pass(14 * time.Minute)
	if result := run(t, r); len(result.Changed) != 0 {
		t.Errorf("while it is in doubt: %+v", result)
	}
	a.pass(time.Minute)
	if result := run(t, r); result.Updated != 1 {
		t.Errorf("a listing that does not change is right in the end: %+v", result)
	}
}

// G2: what is in doubt is an event's function, not one that a listing had lost for once.
func TestAFunctionThatAListingLostOnceIsReadOnce(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.stale = map[string]map[string]string{}
	a.reset()
	run(t, r)
	a.stale = nil
	if run(t, r); a.count("Get") != 1 {
		t.Errorf("it was read %d times", a.count("Get"))
	}
}

// G2: what a listing shows is not registered before it was read by itself.
func TestAFunctionThatCannotBeReadIsNotRegistered(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	a.fail("Get", "")
	if result, err := runAny(t, a.registrator()); !errors.Is(err, ErrFailed) || result.Created != 0 || a.count("PutDefaults", "Put", "PutService") != 0 {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// G2, G7: what a delete is about is read once more just before it, and tags that are wrong meanwhile are no reason for it. Nor is a
// function that was tagged, or moved to another registrator's datacenter, meanwhile one for its document.
func TestWhatATagSaysMeanwhileStopsADelete(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stray bool
		tags  []string
	}{
		"wrong tags": {false, []string{"namespace", "eu"}},
		"a document, of one in another datacenter":         {true, []string{"datacenter", "dc2"}},
		"a document, of one in a datacenter that is kept":  {true, []string{"aliases", "x"}},
		"a document, of one with tags that are now wrong":  {true, []string{"enabled", "perhaps"}},
		"a document, of one that moves to another in time": {true, []string{"datacenter", "dc2", "aliases", "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.dcs = []string{"dc1", "dc2"}
			if test.stray {
				a.documents[testPrefix+"/default/default/web"] = storedDocument{version: 1, ours: true}
			} else {
				a.tag("web")
				run(t, a.registrator())
				delete(a.functions, "web")
			}
			port := &otherwise{functionsPort: functionsPort{a}, from: 2, get: func(name string) (Function, error) {
				a.tag(name, test.tags...)
				return functionsPort{a}.Get(t.Context(), name)
			}}
			result, err := runAny(t, a.registrator(func(c *Config) { c.Functions, c.Datacenter = port, "dc1" }))
			if err != nil || result.Deleted != 0 || len(a.documents) != 1 {
				t.Errorf("error %v, result %+v, documents %v", err, result, a.documents)
			}
		})
	}
}

// G7: the document of a function that is enabled, or whose tags are wrong, may have a use that is not seen from here.
func TestADocumentOfAFunctionThatIsEnabledIsNoStray(t *testing.T) {
	t.Parallel()
	for name, tags := range map[string][]string{"in another datacenter": {"datacenter", "dc2"}, "wrong tags": {"namespace", "eu"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.dcs = []string{"dc1", "dc2"}
			a.tag("web", tags...)
			r := a.registrator()
			a.set("vm-7", Instance{Key: service(t, "web").in("dc2"), ID: "web"}) // so that it cannot be registered
			run(t, r, only("web"))                                               // from now on it is read by itself
			a.documents[testPrefix+"/default/default/web"] = storedDocument{version: 1, ours: true}
			if p, err := r.Plan(t.Context(), Scope{}); err != nil || strings.Contains(p.String(), "left behind") {
				t.Errorf("error %v, plan\n%v", err, p)
			}
		})
	}
}

// G2: a place in the store's listing that AWS has forgotten costs one run, not all.
func TestAPlaceInTheStoreThatIsForgottenFailsOneRun(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("a")
	a.tag("b")
	r := a.registrator()
	run(t, r)
	a.pageSize = 1
	run(t, r)
	a.fail("Page", "/a")
	if _, err := runAny(t, r); err == nil {
		t.Error("nobody was told")
	}
	run(t, r)
}

// G4: what a delete has left is looked for by the next run of the same process.
func TestAnUnfinishedDeleteIsFinishedByTheNextRun(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	delete(a.functions, "web")
	a.fail("Delete", testPrefix)
	if _, err := runAny(t, r); err == nil || len(a.documents) != 1 {
		t.Fatalf("error %v, documents %v", err, a.documents)
	}
	a.fault = nil
	if result := run(t, r); result.Deleted != 1 || len(a.documents) != 0 {
		t.Errorf("result %+v, documents %v", result, a.documents)
	}
}

// G4, G8: meta that cannot be read, or cannot be true, tell of no document: it is made anew.
func TestMetaThatWereSpoiledMakeTheDocumentAnew(t *testing.T) {
	t.Parallel()
	for field, value := range map[string]string{
		metaNotBefore: "2126-01-02T03:04:05Z", metaNotAfter: "never", metaWritten: "", metaVersion: "-1",
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.tag("web")
			r := a.registrator()
			run(t, r)
			i, _ := a.instance("web")
			i.Meta[field] = value
			a.set(testNode, i)
			run(t, r)
			a.state()
			if d := a.documents[testPrefix+"/default/default/web"]; d.version != 2 {
				t.Errorf("version %d", d.version)
			}
			quiet(t, r)
		})
	}
}

// G5: whose a function is, is read with its name: another account may have one of the same.
func TestAServiceWhoseMetaNameAnotherAccountsFunctionIsKept(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web", "enabled", "false")
	theirs := function(t, otherOwner, "web", nil).ARN.String()
	a.set(testNode, Instance{Key: service(t, "api"), ID: "api", Tags: []string{ServiceTag}, Meta: map[string]string{
		metaOwner: testOwner.String(), metaFunction: theirs,
	}})
	if result := run(t, a.registrator()); result.Deleted != 0 || !mentions(result.Warnings, "does not name its function") {
		t.Errorf("result %+v", result)
	}
}

// G6: of our own extension three arguments are ours, in whatever case somebody has spelled them. All else in it survives.
func TestWhatSomebodyPutIntoOurExtensionSurvives(t *testing.T) {
	t.Parallel()
	e, err := readEntry(json.RawMessage(`{"Kind":"service-defaults","Name":"web","EnvoyExtensions":[{"Name":"builtin/aws/lambda","Required":true,
		"Arguments":{"arn":"arn:aws:lambda:us-east-1:123456789012:function:old","invocationmode":"asynchronous","Region":"x"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := record{Key: service(t, "web"), function: function(t, testOwner, "web", nil).ARN}
	merged, err := readEntry(e.merge(r, madeExtension))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"Name":"builtin/aws/lambda","Required":true,"Arguments":
		{"ARN":%q,"InvocationMode":"synchronous","PayloadPassthrough":false,"Region":"x"}}`, r.arn())
	if got := merged.extensions[0]; !sameJSON(got, json.RawMessage(want)) {
		t.Errorf("%s, want %s", got, want)
	}
}

// G6: an entry goes only if we made it. One that was there before stays, empty as it was, and so does one that somebody has written
// anew meanwhile.
func TestAnEntryThatSomebodyMadeStaysWithoutOurPart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ before, meanwhile, after string }{
		"there before": {before: `{"Kind":"service-defaults","Name":"web"}`, after: `{"Kind":"service-defaults","Name":"web"}`},
		"written anew": {
			meanwhile: `{"Kind":"service-defaults","Name":"web","Protocol":"http","EnvoyExtensions":[
				{"Name":"builtin/aws/lambda","Arguments":{"ARN":"arn:aws:lambda:us-east-1:123456789012:function:web"}}]}`,
			after: `{"Kind":"service-defaults","Name":"web","Protocol":"http"}`,
		},
		"another account's meanwhile": {
			meanwhile: `{"Kind":"service-defaults","Name":"web","EnvoyExtensions":[
				{"Name":"builtin/aws/lambda","Arguments":{"ARN":"arn:aws:lambda:us-east-1:210987654321:function:web"}}]}`,
			after: `{"Kind":"service-defaults","Name":"web","EnvoyExtensions":[
				{"Name":"builtin/aws/lambda","Arguments":{"ARN":"arn:aws:lambda:us-east-1:210987654321:function:web"}}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			if test.before != "" {
				a.setEntry("web", test.before)
			}
			a.tag("web")
			r := a.registrator()
			run(t, r)
			if test.meanwhile != "" {
				a.setEntry("web", test.meanwhile)
				run(t, r)
			}
			a.tag("web", "enabled", "false")
			if result := run(t, r); result.Deleted != 1 || !sameJSON(json.RawMessage(a.entry("web")), json.RawMessage(test.after)) {
				t.Errorf("result %+v, entry %s", result, a.entry("web"))
			}
		})
	}
}

// G6: a function that moved to a datacenter which another registrator of the federation keeps still has its service-defaults there.
func TestAFunctionThatMovedToAnotherRegistratorKeepsItsEntry(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.dcs = []string{"dc1", "dc2"}
	a.tag("web")
	here := a.registrator(func(c *Config) { c.Datacenter = "dc1" })
	run(t, here)
	a.tag("web", "datacenter", "dc2")
	if result := run(t, here); result.Deleted != 1 || !strings.Contains(a.entry("web"), ":function:web") {
		t.Errorf("result %+v, entry %q", result, a.entry("web"))
	}
}

// G2: while a part of Consul is away, a document of a service there is not called nobody's.
func TestNoDocumentIsNobodysWhileAPartOfConsulIsAway(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.dcs = []string{"dc1", "dc2"}
	a.tag("web")
	r := a.registrator()
	run(t, r)
	path := testPrefix + "/default/default/web"
	a.documents[path] = storedDocument{version: 1, raw: a.documents[path].raw}
	a.tag("web", "enabled", "false")
	a.pass(lookEvery)
	a.fault = func(op, detail string) (error, error) {
		if op == "Services" && detail == (Realm{}).String() {
			return errInjected, nil
		}
		return nil, nil
	}
	if result, err := runAny(t, r); err == nil || mentions(result.Warnings, path) {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// G7: the document goes last, for it is what a mistaken delete would be healed with.
func TestADeleteTakesTheDocumentLast(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	delete(a.functions, "web")
	a.reset()
	run(t, r, only("web"))
	var deletes []string
	for _, call := range a.log {
		if op, _, _ := strings.Cut(call, " "); strings.HasPrefix(op, "Delete") {
			deletes = append(deletes, op)
		}
	}
	if !slices.Equal(deletes, []string{"DeleteService", "DeleteDefaults", "Delete"}) {
		t.Errorf("calls %v", deletes)
	}
}

// G7: what was lost counts for one schedule, whether it was a service or a document, and then no more.
func TestTheCapIsOpenAgainAfterASchedule(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	a.tag("db")
	r := a.registrator(func(c *Config) { c.MaxDeletes = 1 })
	a.documents[testPrefix+"/default/default/gone"] = storedDocument{version: 1, ours: true}
	if result := run(t, r); result.Deleted != 1 {
		t.Fatalf("result %+v", result)
	}
	for _, name := range []string{"web", "db"} {
		delete(a.functions, name)
		if result, err := runAny(t, r, only(name)); !errors.Is(err, ErrDeletes) || result.Deleted != 0 {
			t.Errorf("%s: error %v, result %+v", name, err, result)
		}
		a.pass(defaultSchedule)
		if result := run(t, r, only(name)); result.Deleted != 1 {
			t.Errorf("%s, a schedule later: %+v", name, result)
		}
	}
}

// G7: a service without a document, as that of an alias, counts too.
func TestAnAliasThatWasDroppedCountsForTheCap(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web", "aliases", "blue")
	a.tag("db")
	r := a.registrator(func(c *Config) { c.MaxDeletes = 1 })
	run(t, r)
	a.tag("web")
	delete(a.functions, "db")
	if result := run(t, r, only("web")); result.Deleted != 1 {
		t.Fatalf("result %+v", result)
	}
	if result, err := runAny(t, r, only("db")); !errors.Is(err, ErrDeletes) || result.Deleted != 0 {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// G8: below 60 % of a leaf's life Consul is not asked, then hourly, and from 85 % on in each run. That it has none yet is no news.
func TestConsulIsAskedForALeafWhenItMayHaveOne(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	passed := time.Duration(0)
	for _, test := range []struct {
		share float64
		want  int
	}{{0.59, 0}, {0.61, 1}, {0.80, 1}, {0.86, 6}} {
		at := time.Duration(test.share * float64(a.ttl))
		a.pass(at - passed)
		passed = at
		a.reset()
		for range 6 {
			if result := run(t, r); result.Warned != 0 || len(result.Changed) != 0 {
				t.Errorf("at %.2f: %+v", test.share, result)
			}
			a.pass(defaultSchedule / 2)
			passed += defaultSchedule / 2
		}
		if n := a.count("Leaf"); n != test.want {
			t.Errorf("from %.2f on, in six runs of half an hour, %d questions, want %d", test.share, n, test.want)
		}
	}
}

// G8, G9: when the roots change, the leaves under the old ones come before what is new; and of those that are nearly out, the one
// that is out first.
func TestLeavesAreRenewedBeforeAnythingIsCreated(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("z")
	r := a.registrator()
	run(t, r)
	a.pass(time.Minute)
	a.tag("y")
	run(t, r)
	a.tag("a")
	for what, later := range map[string]func(){
		"new roots":  func() { a.ca.Rotate(t) },
		"nearly out": func() { a.pass(a.ttl - 10*time.Minute) },
	} {
		later()
		p, err := r.Plan(t.Context(), Scope{})
		var names []string
		for _, c := range p.Changes {
			names = append(names, c.Name)
		}
		if err != nil || !slices.Equal(names, []string{"z", "y", "a"}) {
			t.Errorf("%s: error %v, plan\n%v", what, err, p)
		}
	}
}

// G8: a leaf that has to be replaced at once, as its roots have changed, and cannot be, is a failure however long it would live.
func TestALeafThatCannotBeHadForNewRootsIsAFailure(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.ca.Rotate(t)
	a.fail("Leaf", "")
	if result, err := runAny(t, r); !errors.Is(err, ErrFailed) || !mentions(result.Failures, "getting its leaf") {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// G8: a store that gives no version has not said that it has the document.
func TestADocumentWithoutAVersionIsAFailure(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	if result, err := runAny(t, a.registrator(func(c *Config) { c.Documents = versionless{documentsPort{a}} })); !errors.Is(err, ErrFailed) {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// versionless is a store that answers a write with no version.
type versionless struct{ documentsPort }

func (v versionless) Put(ctx context.Context, path string, document []byte) (int64, error) {
	_, err := v.documentsPort.Put(ctx, path, document)
	return 0, err
}

// G4: the order in which Consul lists the peers says nothing.
func TestPeersInAnotherOrderAreNoChange(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	east, west := certtest.NewCA(t).Peer("east", "east"), certtest.NewCA(t).Peer("west", "west")
	a.peers = []mesh.DocumentPeer{east, west}
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.peers = []mesh.DocumentPeer{west, east}
	quiet(t, r)
}
