// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// TestScripts runs what a person would type, in processes of their own: testdata/*.txtar. Besides the commands of testscript there are
//
//	world [FAULT ...]     starts a world without a registrator, does the faults to it, and sets the environment
//	function NAME [TAG=VALUE ...]
//	                      puts a function into the account
//	unchanged             fails if anything was written in the world since it was started, or was asked for by a call that writes
//	exits CODE PROGRAM [ARGUMENT ...]
//	                      is exec for a program that is to exit with that code
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true") // nothing here is asked but loopback
			env.Setenv("NO_PROXY", "*")
			env.Values[siteKey{}] = new(scriptSite)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"world": startWorld, "function": putFunction, "unchanged": wantUnchanged, "exits": wantExit,
		},
	})
}

type siteKey struct{}

// scriptSite is what a script has of a world.
type scriptSite struct {
	site  *site
	state string   // of Consul, at the start
	names []string // of parameters, likewise
}

func ofScript(ts *testscript.TestScript) *scriptSite { return ts.Value(siteKey{}).(*scriptSite) }

func startWorld(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! world")
	}
	own := ofScript(ts)
	s, closeSite, err := startTestSite(context.Background())
	ts.Check(err)
	ts.Defer(func() { ts.Check(closeSite()) })
	ts.Check(s.breaks(args))
	own.site, own.state, own.names = s, s.consul.State(), s.world.Store.Names()
	for name, value := range s.env {
		ts.Setenv(name, value)
	}
}

func putFunction(ts *testscript.TestScript, _ bool, args []string) {
	tags := make(map[string]string)
	for _, arg := range args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		tags[registrator.TagPrefix+name] = value
	}
	ofScript(ts).site.aws.AddFunction(args[0], tags)
}

// readOnly are all calls that change nothing. What is not here is taken for a write.
var readOnly = []string{
	"GetCallerIdentity", "GetResources", "GetFunction", "ListFunctions", "ListTags", "DescribeParameters", "GetParameter",
	consulsim.OpNodeServices, consulsim.OpService, consulsim.OpServices, consulsim.OpDatacenters, consulsim.OpConfigList, consulsim.OpConfigGet,
	consulsim.OpRoots, consulsim.OpPeerings, consulsim.OpPeering,
}

func wantUnchanged(ts *testscript.TestScript, _ bool, _ []string) {
	own := ofScript(ts)
	var ops []string
	for _, c := range own.site.aws.Calls() {
		ops = append(ops, c.Op)
	}
	for _, c := range own.site.world.Store.Calls() {
		ops = append(ops, c.Op)
	}
	for _, c := range own.site.consul.Calls() {
		ops = append(ops, c.Op)
	}
	if len(ops) == 0 {
		ts.Fatalf("nothing was asked at all")
	}
	for _, op := range ops {
		if op != "" && !slices.Contains(readOnly, op) {
			ts.Fatalf("%s was called", op)
		}
	}
	if state := own.site.consul.State(); state != own.state {
		ts.Fatalf("Consul changed from %s to %s", own.state, state)
	}
	if names := own.site.world.Store.Names(); !slices.Equal(names, own.names) {
		ts.Fatalf("the store changed from %v to %v", own.names, names)
	}
	ts.Logf("%d calls, none of which writes", len(ops))
}

func wantExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGUMENT ...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exited *exec.ExitError
		if !errors.As(err, &exited) {
			ts.Fatalf("running %s: %v", args[1], err)
		}
		got = exited.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d; stdout:\n%s\nstderr:\n%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}
