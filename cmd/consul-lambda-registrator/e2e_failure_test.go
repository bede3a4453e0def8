// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
)

// Predecessor's defect: what could not be read was taken for gone. G2: a listing that is cut, at any page, changes nothing.
func TestAListingThatIsCutDeletesNothing(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Quiet: true, Timeout: 10 * time.Second})
	a.addFunctions(250, 250)
	if got := a.run(); got.Created != 250 {
		t.Fatalf("the first run: %+v", got)
	}
	before := a.state()
	for i := range 20 {
		a.AWS.SetTags(name(i), nil)
	}
	a.AWS.Fail(awswire.Target{Op: "GetResources", Page: 3}, controlsim.Truncate())
	contains(t, a.failure(), "GetResources")
	a.sameState(before)
	a.AWS.Heal()
	if got := a.run(); got.Deleted != 20 {
		t.Errorf("the next run: %+v", got)
	}
}

// Predecessor's defect: a throttled GetFunction deregistered a healthy function and deleted its key. G2: it says nothing, and an
// invocation that it takes all the time of still ends by itself, saying what it was about.
func TestThrottledReadsDeleteNothing(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Quiet: true, Timeout: 2 * time.Second})
	a.addFunctions(3, 3)
	a.run()
	before := a.state()
	a.AWS.FailAll("GetFunction", controlsim.Throttled())
	contains(t, a.message(a.Invoke(a.context(), controlsim.Place{}.APIEvent(controlsim.APICall{
		Name: "UntagResource20170331v2", Parameters: map[string]any{"resource": a.AWS.ARN(name(0))},
	}))), name(0), "GetFunction")
	a.AWS.SetTags(name(1), nil) // the listing says so, and nothing confirms it
	contains(t, a.failure(), name(1), "GetFunction")
	a.sameState(before)
	a.AWS.Heal()
	if got := a.run(); got.Deleted != 1 {
		t.Errorf("the next run: %+v", got)
	}
}

// G10: a Consul that fails half way fails the run, and the next one does the rest.
func TestAConsulThatFailsHalfWayIsHealedByTheNextRun(t *testing.T) {
	t.Parallel()
	const functions = 60
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.addFunctions(functions, functions)
	// Each takes a question for its name and three writes.
	for nth := 3 * functions; nth < 6*functions; nth++ {
		a.Consul.FailAt(nth, consulsim.Status(500, "disk full"))
	}
	contains(t, a.failure(), "disk full")
	if n := len(a.registered()); n == 0 || n == functions {
		t.Errorf("%d of %d are registered: that is not half way", n, functions)
	}
	a.Consul.Heal()
	if got := a.run(); got.Failed != 0 || got.Enabled != functions {
		t.Errorf("the next run: %+v", got)
	}
	for i := range functions {
		a.document(name(i))
	}
	if got := a.run(); len(got.Changed) != 0 {
		t.Errorf("the run after that: %+v", got)
	}
}

// G7: when 80 of 100 functions vanish, none is deleted and the run says why.
func TestAMassDisappearanceDeletesNothingAndFails(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.addFunctions(100, 100)
	a.run()
	before := a.state()
	for i := range 80 {
		a.AWS.Remove(name(i))
	}
	for range 2 {
		contains(t, a.failure(), "80", "20", "CONSUL_LAMBDA_MAX_DELETES")
		a.sameState(before)
	}
}

// G5: registrators of two accounts share a Consul and a node name, and functions of one name. Neither touches what is the other's.
func TestTwoAccountsOnOneConsulLeaveEachOtherAlone(t *testing.T) {
	t.Parallel()
	consul := newSharedConsul(t, consulsim.Config{})
	one := newAccountIn(t, "111111111111", lab.ControlConfig{Consul: consul})
	two := newAccountIn(t, "222222222222", lab.ControlConfig{Consul: consul})
	for _, a := range []*account{one, two} {
		a.AWS.AddFunction("shared", enabled())
		a.settle()
	}
	one.AWS.AddFunction("first", enabled())
	two.AWS.AddFunction("second", enabled())
	one.settle()
	two.settle()
	if got := one.registered(); !slices.Equal(got, []string{"first", "second", "shared"}) {
		t.Fatalf("the catalog has %v", got)
	}
	contains(t, consul.Entry("shared"), one.AWS.ARN("shared")) // who came first
	before := one.state()
	if got := two.run(); got.Warned != 1 || got.Enabled != 1 || len(got.Changed) != 0 {
		t.Errorf("the second account's run: %+v", got)
	}
	if got := one.run(); got.Warned != 0 || got.Enabled != 2 || len(got.Changed) != 0 {
		t.Errorf("the first account's run: %+v", got)
	}
	one.sameState(before)
	two.AWS.SetTags("shared", nil)
	two.AWS.Remove("second")
	two.settle()
	if got := one.registered(); !slices.Equal(got, []string{"first", "shared"}) {
		t.Errorf("the catalog has %v", got)
	}
	contains(t, consul.Entry("shared"), one.AWS.ARN("shared"))
	contains(t, consul.State(), "-aws-us-east-1-111111111111", "-aws-us-east-1-222222222222")
}

// Predecessor's defect: an event of any untagged function deleted the service-defaults of that name, whoever owned them (G5).
func TestSomebodyElsesServiceDefaultsAreNotTouched(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{})
	ok(t, a.Consul.PutEntry(`{"Kind":"service-defaults","Name":"web","Protocol":"grpc","Meta":{"by":"somebody else"}}`))
	ok(t, a.Consul.PutService(consulsim.Service{Node: "vm-1", Name: "web", Port: 80}))
	ok(t, a.Consul.PutEntry(`{"Kind":"service-defaults","Name":"api","Protocol":"http"}`))
	entries := a.Consul.Entry("web") + a.Consul.Entry("api")
	a.AWS.AddFunction("web", nil)
	a.AWS.SetTags("web", map[string]string{"team": "shop"})
	a.AWS.SetTags("web", nil)
	a.AWS.Remove("web")
	a.AWS.AddFunction("api", map[string]string{"team": "shop"})
	a.settle()
	for _, i := range a.Invocations() {
		if i.Failed() {
			t.Errorf("an invocation failed: %s, %v", i.Result.Payload, i.Err)
		}
	}
	a.run()
	if now := a.Consul.Entry("web") + a.Consul.Entry("api"); now != entries {
		t.Errorf("before %s, now %s", entries, now)
	}
	if got := a.registered(); !slices.Equal(got, []string{"web"}) {
		t.Errorf("the catalog has %v", got)
	}
	// Not even a function that takes part gets a name that somebody else has: it is reported.
	a.AWS.AddFunction("web", enabled())
	a.settle()
	if got := a.run(); got.Warned != 1 || !strings.Contains(got.Warnings[0].Text+got.Warnings[0].Name, "web") {
		t.Errorf("the run: %+v", got)
	}
	if now := a.Consul.Entry("web") + a.Consul.Entry("api"); now != entries {
		t.Errorf("before %s, now %s", entries, now)
	}
}

// G11: without tag:GetResources every function is read, with a cursor that goes on in the next run.
func TestWithoutTheTaggingAPIEveryFunctionIsRead(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Quiet: true, Env: with(env{"PAGE_SIZE": "10"})})
	a.AWS.Deny("tag:GetResources")
	a.addFunctions(35, 20)
	if got := a.run(); got.Created != 20 {
		t.Errorf("the first run: %+v", got)
	}
	// The 20 are read once more just before they are made (G2).
	if lists, reads := a.AWS.Count("ListFunctions"), a.AWS.Count("GetFunction"); lists != 4 || reads != 35+20 {
		t.Errorf("%d lists, %d reads", lists, reads)
	}
	before := a.state()
	a.run()
	a.sameState(before)
}
