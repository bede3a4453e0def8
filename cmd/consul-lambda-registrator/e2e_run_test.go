// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
)

// G1, G5, G6, G12, and all of section 3.4: what a tag does, and what its removal undoes.
func TestATagRegistersAFunctionAndItsRemovalTakesItOut(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{})
	a.AWS.AddFunction("orders", nil)
	a.AWS.SetTags("orders", map[string]string{
		lab.EnabledTag: "true",
		"serverless.consul.hashicorp.com/v1alpha1/lambda/invocation-mode": "ASYNCHRONOUS",
		"serverless.consul.hashicorp.com/v1alpha1/lambda/aliases":         "live",
	})
	a.settle()
	if got := a.registered(); !slices.Equal(got, []string{"orders", "orders-live"}) {
		t.Fatalf("the catalog has %v", got)
	}
	for _, s := range a.Consul.Services() {
		if !slices.Contains(s.Tags, "managed-by-lambda-registrator") || s.Node != lab.RegistratorNode {
			t.Errorf("%s has tags %v, on node %s", s.Name, s.Tags, s.Node)
		}
	}
	contains(t, a.Consul.Entry("orders"), "builtin/aws/lambda", a.AWS.ARN("orders"), `"asynchronous"`)
	contains(t, a.Consul.Entry("orders-live"), a.AWS.ARN("orders:live"))
	doc := a.document("orders")
	if doc.TrustDomain != a.world.Mesh.CA.TrustDomain() || doc.RootCertPEM == "" || doc.PrivateKeyPEM == "" {
		t.Errorf("the document is of %s", doc.TrustDomain)
	}
	if names := a.world.Store.Names(); len(names) != 1 {
		t.Errorf("an alias has a document of its own: %v", names)
	}
	if n := a.AWS.Count("GetResources") + a.AWS.Count("ListFunctions"); n != 0 {
		t.Errorf("events of one function made %d listings", n)
	}

	a.AWS.SetTags("orders", map[string]string{"team": "shop"})
	a.settle()
	if got := a.registered(); len(got) != 0 || a.Consul.Entry("orders") != "" || len(a.world.Store.Names()) != 0 {
		t.Errorf("left behind: %v, %s, %v", got, a.Consul.Entry("orders"), a.world.Store.Names())
	}
	for _, i := range a.Invocations() {
		if i.Failed() {
			t.Errorf("an invocation failed: %s, %v", i.Result.Payload, i.Err)
		}
	}
}

// G12: a function that is deleted goes, an alias that is deleted does not take the function along.
func TestADeletedFunctionIsTakenOut(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{})
	a.AWS.AddFunction("orders", enabled())
	a.AWS.AddFunction("stock", enabled())
	a.settle()
	a.AWS.Remove("orders")
	a.settle()
	if got := a.registered(); !slices.Equal(got, []string{"stock"}) {
		t.Errorf("the catalog has %v", got)
	}
	if names := a.world.Store.Names(); !slices.Equal(names, []string{path("stock")}) {
		t.Errorf("the store has %v", names)
	}
}

// G1: events that come late, twice and in any order lead to where the functions are.
func TestEventsInAnyOrderLeadToTheSameState(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{AWS: controlsim.Config{EventJitter: 300 * time.Millisecond, EventDuplicates: 0.5, EventSeed: 7}})
	for _, name := range []string{"a", "b", "c"} {
		a.AWS.AddFunction(name, nil)
		a.AWS.SetTags(name, enabled())
	}
	a.AWS.SetTags("b", nil)
	a.AWS.Remove("c")
	a.settle()
	if got := a.registered(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the catalog has %v", got)
	}
}

// G3: a dry run says what would be done, with reasons, and does none of it.
func TestADryRunReturnsThePlanAndWritesNothing(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.addFunctions(3, 2)
	r, err := a.Invoke(a.context(), []byte(`{"dryRun":true}`))
	got := a.read(r, err)
	if got.Plan == nil || got.Skipped+len(got.Left)+got.Created != 0 {
		t.Errorf("it answers %s", r.Payload)
	}
	plan, err := json.Marshal(got.Plan)
	ok(t, err)
	contains(t, string(plan), name(0), name(1), "create")
	if strings.Contains(string(plan), name(2)) {
		t.Errorf("the plan has a function that takes no part: %s", plan)
	}
	if len(a.registered()) != 0 || len(a.world.Store.Names()) != 0 || strings.Contains(a.Consul.State(), lab.RegistratorNode) {
		t.Errorf("a dry run has written:\n%s", a.Consul.State())
	}
}

// The answer is read by people and alarms: its form is part of what is promised. A second run is empty (G1).
func TestTheResultCountsWhatWasDone(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.addFunctions(3, 2)
	bad := enabled()
	bad["serverless.consul.hashicorp.com/v1alpha1/lambda/invocation-mode"] = "SOMETIMES"
	a.AWS.AddFunction("bad", bad)
	got := a.run()
	if got.Created != 2 || got.Enabled != 2 || got.Failed != 0 || len(got.Failures) != 0 || got.Warned != 1 || len(got.Warnings) != 1 ||
		got.LeafOf == "" || got.Plan != nil {
		t.Errorf("the first run: %+v", got)
	}
	if left, err := time.ParseDuration(got.LeafLeft); err != nil || left <= 0 {
		t.Errorf("the shortest leaf has %q left, %v", got.LeafLeft, err)
	}
	if len(got.Warnings) == 1 {
		contains(t, got.Warnings[0].Name+": "+got.Warnings[0].Text, "bad", "SOMETIMES") // G10
	}
	before := a.state()
	if got := a.run(); got.Created+got.Updated+got.Renewed+got.Deleted+got.Skipped+got.Failed+len(got.Changed) != 0 || got.Enabled != 2 {
		t.Errorf("the second run: %+v", got)
	}
	a.sameState(before)
	a.Recycle()
	if got := a.run(); len(got.Changed) != 0 {
		t.Errorf("the first run of another process: %+v", got)
	}
	a.sameState(before)
}

// The node's meta say that the registrator is alive, and how the leaves are.
func TestEachFullRunLeavesAHeartbeat(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.addFunctions(1, 1)
	beat := func() (h struct {
		At       time.Time
		By       string
		Enabled  int
		LeafLeft string
	}) {
		var all []struct {
			Nodes []struct {
				Node string
				Meta map[string]string
			}
		}
		ok(t, json.Unmarshal([]byte(a.Consul.State()), &all))
		for _, n := range all[0].Nodes {
			if n.Node == lab.RegistratorNode {
				if n.Meta["external-node"] != "true" || n.Meta["external-probe"] != "true" {
					t.Errorf("the node's meta are %v", n.Meta)
				}
				for key, value := range n.Meta {
					if strings.HasSuffix(key, "-aws-us-east-1-123456789012") {
						ok(t, json.Unmarshal([]byte(value), &h))
					}
				}
			}
		}
		return h
	}
	a.run()
	first := beat()
	if time.Since(first.At) > patience || !strings.HasPrefix(first.By, "consul-lambda-registrator") || first.Enabled != 1 || first.LeafLeft == "" {
		t.Errorf("the heartbeat is %+v", first)
	}
	a.run()
	if second := beat(); !second.At.After(first.At) {
		t.Errorf("the next heartbeat is of %v, the first of %v", second.At, first.At)
	}
}

// G10: what fails on our side fails the invocation, after all the rest was done, and is done when Lambda repeats it.
func TestAPartialFailureFailsTheInvocationAfterTheRestIsDone(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.addFunctions(5, 5)
	a.world.Store.Fail(awswire.Target{Op: "PutParameter", Name: path(name(2))}, ssmsim.AccessDenied())
	contains(t, a.failure(), name(2), "ssm:PutParameter")
	if names := a.world.Store.Names(); len(names) != 4 || slices.Contains(names, path(name(2))) {
		t.Errorf("the store has %v", names)
	}
	if got := a.registered(); len(got) != 5 {
		t.Errorf("the catalog has %v: a function without a document can be called", got)
	}
	a.world.Store.Heal()
	if got := a.run(); got.Renewed != 1 && got.Updated != 1 {
		t.Errorf("the next run: %+v", got)
	}
	a.document(name(2))
}

// G10: Lambda repeats an event that failed.
func TestAnEventThatFailedIsRepeated(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{})
	a.world.Store.FailNext("PutParameter", 1, ssmsim.AccessDenied())
	a.AWS.AddFunction("orders", enabled())
	a.settle()
	a.document("orders")
	if all := a.Invocations(); len(all) != 2 || !all[0].Failed() || all[1].Failed() || all[1].Try != 2 {
		t.Errorf("it was invoked %d times: %+v", len(all), all)
	}
}

// All that is wrong is said at once, with the variable, the value and what is accepted, by each invocation.
func TestInvalidConfigurationIsWhatEveryInvocationSays(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Env: env{"NODE_NAME": "", "CONSUL_LAMBDA_POLICY": "sometimes", "PAGE_SIZE": "1000"}})
	for range 2 {
		contains(t, a.failure(), "NODE_NAME", "CONSUL_LAMBDA_POLICY", `"sometimes"`, "upsert-only", "PAGE_SIZE", `"1000"`)
	}
	if n := a.AWS.Count("") + a.world.Store.Count("") + len(a.Consul.Calls()); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

// G12: an event that nobody knows is an error that names it.
func TestAnUnknownEventIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{})
	contains(t, a.message(a.Invoke(a.context(), []byte(`{"source":"aws.s3","detail-type":"Object Created","detail":{}}`))), "aws.s3", "Object Created")
	if n := a.AWS.Count(""); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

// G5: whose functions are kept is said by the ARN that was invoked, and a caller of another account gets nowhere.
func TestFunctionsOfAnotherAccountAreNotTouched(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{})
	other := controlsim.Place{Account: "210987654321"}
	r, err := a.Invoke(a.context(), other.APIEvent(controlsim.APICall{
		Name: "TagResource20170331v2", Parameters: map[string]any{"resource": "arn:aws:lambda:us-east-1:210987654321:function:theirs"},
	}))
	a.read(r, err)
	if n := a.AWS.Count(""); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

// G9: with AWS's own limits and little time, a run stops in order, says what is left, and the next one goes on.
func TestARunStopsBeforeItsDeadlineAndTheNextOnesGoOn(t *testing.T) {
	t.Parallel()
	const functions = 6 // in three runs: one that goes on stops again
	a := newAccount(t, lab.ControlConfig{
		AWS: controlsim.Config{Limits: controlsim.AWSLimits()}, Quiet: true,
		Env: env{"LOG_LEVEL": "info"}, Timeout: 4 * time.Second,
	})
	a.world.Store.SetWriteLimit(3, 3)
	a.addFunctions(functions, functions)
	documents := 0
	for run := 1; ; run++ {
		begin := time.Now()
		got := a.run()
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("run %d took %v", run, took)
		}
		now := len(a.world.Store.Names())
		if now <= documents || got.Skipped != len(got.Left) || got.Failed != 0 {
			t.Fatalf("run %d: %d documents after %d, %+v", run, now, documents, got)
		}
		if documents = now; got.Skipped == 0 {
			if run == 1 {
				t.Error("there was time for everything in one run: the test shows nothing")
			}
			break
		}
		contains(t, got.Left[0].Text, "time")
	}
	if len(a.registered()) != functions || documents != functions {
		t.Errorf("%d services, %d documents", len(a.registered()), documents)
	}
}
