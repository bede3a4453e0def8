// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// before calls f once, before the first call of that operation has its effect. The world is not locked meanwhile.
func (w *world) before(op string, f func()) {
	done := false
	w.fault = func(got, _ string) (before, after error) {
		if got == op && !done {
			done = true
			w.mu.Unlock()
			defer w.mu.Lock()
			f()
		}
		return nil, nil
	}
}

// G2, G7: what a delete is about is read once more just before it: a run may take minutes to get there.
func TestAFunctionThatIsTaggedAgainWhileARunGoesOnIsNotTakenOut(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.tag("web", "enabled", "false")
	a.tag("new") // the run has something to do before its deletes
	a.before("PutService", func() { a.tag("web"); a.pass(10 * time.Minute) })
	result := run(t, r)
	if _, ok := a.instance("web"); !ok || result.Deleted != 0 || result.Created != 1 {
		t.Errorf("registered %v, result %+v", ok, result)
	}
	quiet(t, r)
}

// G2: a delete that cannot be confirmed is not made, and said.
func TestAFunctionThatCannotBeReadOnceMoreIsNotTakenOut(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	delete(a.functions, "web")
	reads := 0
	a.fault = func(op, _ string) (before, after error) {
		if op == "Get" {
			if reads++; reads > 1 {
				return errInjected, nil
			}
		}
		return nil, nil
	}
	result, err := runAny(t, r)
	if _, ok := a.instance("web"); !ok || !errors.Is(err, ErrFailed) || result.Deleted != 0 {
		t.Errorf("registered %v, error %v, result %+v", ok, err, result)
	}
}

// G7: the document of a function that was replaced meanwhile is another one's. The store takes any delete, so the function is read
// once more after the turn at the store, for which a run may have waited long.
func TestTheDocumentOfAFunctionThatWasReplacedMeanwhileIsNotDeleted(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	a.tag("other")
	slow, other := a.registrator(), a.registrator()
	run(t, slow)
	delete(a.functions, "web")
	a.before("DeleteDefaults", func() {
		a.tag("web")
		run(t, other, Scope{Functions: []string{"web"}})
	})
	run(t, slow, Scope{Functions: []string{"web"}})
	_, registered := a.instance("web")
	if _, stored := a.document("web"); !registered || !stored || a.entry("web") == "" {
		t.Errorf("registered %v, document %v, entry %q", registered, stored, a.entry("web"))
	}
	quiet(t, other)
}

// G8: a run that has seen one root only, and stores its document over that of a run that has seen both, writes it anew when it loses
// the catalog: the meta must not tell of a root that the document lacks.
func TestADocumentWithOlderRootsDoesNotStayOverANewerOne(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	slow, other := a.registrator(), a.registrator()
	run(t, slow)
	a.pass(71 * time.Hour)
	a.before("Put", func() { // it has its leaf, and waits for its turn at the store
		a.ca.Rotate(t)
		run(t, other, Scope{Functions: []string{"web"}})
	})
	run(t, slow)
	a.state() // the meta and the document agree
	if doc, _ := a.document("web"); doc.RootCertPEM != a.ca.RootsPEM() {
		t.Error("the document lacks the new root")
	}
	quiet(t, slow)
	quiet(t, other)
}

// G8: likewise in the next run, if this one could not do it any more.
func TestADocumentThatWasStoredWithoutItsCommitIsWrittenAnew(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	r := a.registrator()
	run(t, r)
	a.pass(71 * time.Hour)
	a.fail("PutService", "")
	if _, err := runAny(t, r); !errors.Is(err, ErrFailed) {
		t.Errorf("error %v", err)
	}
	a.fault = nil
	if result := run(t, r); result.Renewed != 1 {
		t.Errorf("result %+v", result)
	}
	a.state()
	quiet(t, r)
}

// G1: to lose a race is no failure: two events of one new function are usual. The function is looked at once more.
func TestTwoEventsOfOneNewFunctionAreNoFailure(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"PutNode", "PutDefaults", "PutService"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			a := testAccount(t)
			a.tag("web")
			event := Scope{Functions: []string{"web"}}
			slow, other := a.registrator(), a.registrator()
			a.before(op, func() { run(t, other, event) })
			result := run(t, slow, event)
			if result.Failed+result.Skipped != 0 || result.Enabled != 1 {
				t.Errorf("result %+v", result)
			}
			a.state()
			quiet(t, slow)
		})
	}
}

// G10: one who loses again and again is told.
func TestARaceThatIsLostTwiceIsAFailure(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	a.failWith(ErrConflict, "PutDefaults", "")
	result, err := runAny(t, a.registrator())
	if !errors.Is(err, ErrFailed) || result.Failed != 1 || a.count("PutDefaults") != 2 {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// G7: one mistake that comes as forty events is capped as in one run.
func TestTheCapHoldsForEventsToo(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tagMany(40)
	r := a.registrator()
	run(t, r)
	for i := range 40 {
		delete(a.functions[fmt.Sprint("f", i)], TagEnabled)
	}
	deleted, refused := 0, 0
	events := func() {
		for i := range 40 {
			result, err := runAny(t, r, Scope{Functions: []string{fmt.Sprint("f", i)}})
			if deleted += result.Deleted; errors.Is(err, ErrDeletes) {
				refused++
			}
		}
	}
	events()
	if deleted != 8 || refused != 32 {
		t.Errorf("%d of 40 were deleted, %d events refused: want a fifth", deleted, refused)
	}
	if result, err := runAny(t, r); !errors.Is(err, ErrDeletes) || result.Deleted != 0 {
		t.Errorf("a full run: error %v, deleted %d", err, result.Deleted)
	}
	a.pass(defaultSchedule)
	if result, err := runAny(t, r); !errors.Is(err, ErrDeletes) || result.Deleted != 0 {
		t.Errorf("a full run one schedule later: error %v, deleted %d", err, result.Deleted)
	}
}

// G7: the cap counts functions: one with many aliases is one decision.
func TestOneFunctionWithManyAliasesIsOneDelete(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web", "aliases", "a+b+c+d+e+f")
	a.tag("db")
	r := a.registrator()
	run(t, r)
	delete(a.functions, "web")
	if result := run(t, r, Scope{Functions: []string{"web"}}); result.Deleted != 7 {
		t.Errorf("result %+v", result)
	}
	quiet(t, r)
}

// G8: a leaf that is about to run out, and for which there was no time, is a failure.
func TestALeafForWhichThereWasNoTimeIsAFailure(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web")
	run(t, a.registrator())
	a.pass(71*time.Hour + 55*time.Minute)
	r := a.registrator(func(c *Config) { c.PutsPerSecond = 0.001 })
	r.puts.Allow() // the next turn at the store is 1,000 s away
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result, err := r.Run(ctx, Scope{})
	if !errors.Is(err, ErrFailed) || !mentions(result.Failures, "no time left") {
		t.Errorf("error %v, result %+v", err, result)
	}
}

// G6: what others have built on a protocol keeps it. Consul refuses to take it away under a service-router, and a run that tried for
// ever would never get to the document.
func TestAProtocolThatOthersBuildOnStaysWhenItsFunctionGoes(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("shop")
	r := a.registrator()
	run(t, r)
	delete(a.functions, "shop")
	a.failWith(fmt.Errorf("deleting: %w (its router)", ErrInUse), "DeleteDefaults", "")
	result := run(t, r)
	if result.Deleted != 1 || !mentions(result.Warnings, "its router") {
		t.Errorf("result %+v", result)
	}
	if _, ok := a.document("shop"); ok {
		t.Error("the document stays")
	}
	if got := a.entry("shop"); !strings.Contains(got, `"Protocol":"http"`) || strings.Contains(got, "lambda") {
		t.Errorf("entry %s", got)
	}
	quiet(t, r)
}

// G7: what is not done because something else of the function failed does not blame the clock.
func TestADeleteThatWaitsForSomethingElseSaysSo(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("web", "aliases", "old")
	r := a.registrator()
	run(t, r)
	a.tag("web", "aliases", "new")
	a.fail("PutDefaults", "new")
	result, _ := runAny(t, r)
	if !mentions(result.Left, "something else of function web was not done") || mentions(result.Left, "time") {
		t.Errorf("left %v", result.Left)
	}
}

// G3: the answer to a dry run fits into what Lambda takes for one, 6 MB, and says what it leaves out.
func TestTheAnswerToADryRunOverManyFunctionsFits(t *testing.T) {
	t.Parallel()
	const functions = 10_000
	a := testAccount(t)
	for i := range functions {
		a.tag(fmt.Sprintf("team-payments-service-function-%05d", i))
	}
	result := run(t, a.registrator(), Scope{DryRun: true})
	raw, err := json.Marshal(result)
	if err != nil || len(raw) > 6_000_000 || len(result.Plan.Changes)+result.Plan.More != functions+1 {
		t.Errorf("%d bytes, error %v, %d changes and %d more", len(raw), err, len(result.Plan.Changes), result.Plan.More)
	}
	if text := result.Plan.String(); !strings.Contains(text, fmt.Sprintf("and %d more", result.Plan.More)) {
		t.Error("the plan does not say that it is a part")
	}
}

// G4: a name that passes from a function to another one's alias leaves a document that nobody reads.
func TestADocumentOfAFunctionThatBecameAnAliasIsAStray(t *testing.T) {
	t.Parallel()
	a := testAccount(t)
	a.tag("a-b")
	run(t, a.registrator())
	delete(a.functions, "a-b")
	a.tag("a", "aliases", "b")
	r := a.registrator()
	for range 2 {
		run(t, r)
		a.pass(lookEvery)
	}
	run(t, r)
	if i, ok := a.instance("a-b"); !ok || !strings.HasSuffix(i.Meta[metaFunction], "function:a:b") {
		t.Errorf("instance %+v", i)
	}
	if _, ok := a.document("a-b"); ok {
		t.Error("its document is left")
	}
}

// otherOwn is a Consul whose server is not of the datacenter that it lists first, as the token may not ask it.
type otherOwn struct{ *world }

func (o otherOwn) Services(ctx context.Context, r Realm, node string) (Node, []Instance, error) {
	n, instances, err := o.world.Services(ctx, r, node)
	if n.Index != 0 && r.Datacenter == "" {
		n.Datacenter = "dc2"
	}
	return n, instances, err
}

// G2: what belongs to one datacenter must not be looked for in another.
func TestAServerOfAnotherDatacenterThanTheFirstIsNotTakenForIt(t *testing.T) {
	t.Parallel()
	a := testFederation(t)
	a.tag("web")
	run(t, a.registrator())
	before := a.state()
	delete(a.functions, "web")
	result, err := runAny(t, a.registrator(func(c *Config) { c.Consul = otherOwn{a.world} }))
	if err == nil || result.Deleted != 0 || a.state() != before || !strings.Contains(err.Error(), "agent:read") {
		t.Errorf("error %v, result %+v", err, result)
	}
}
