// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/labtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// The tests in the files e2e_*_test.go and figures_test.go run the shipped binary, unmodified, as a Lambda function of the lab. Each
// names the rules that it guards. Everything goes over the wire: the Runtime API, AWS's protocols, Consul's HTTP API. What is decided
// is tested in package registrator, in memory and by the thousand; here, that it comes out of the process.

// patience bounds whatever should happen soon.
const patience = time.Minute

// A run waits for its limits of rate, and for the servers that it asks, most of the time.
func TestMain(m *testing.M) { labtest.Main(m, 8) }

// programs builds what is shipped, or the registrator with the race detector.
func programs(t testing.TB) lab.Programs {
	t.Helper()
	return labtest.Programs(t, lab.BuildOptions{Race: labtest.Race(), Registrator: true})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// account is an AWS account with its registrator, beside a mesh and a Consul.
type account struct {
	testing.TB
	*lab.Control
	world *lab.World
}

// env are variables of the registrator.
type env map[string]string

// unlimited are the variables that switch the rate limits off, which would make tests slow.
var unlimited = env{
	"CONSUL_LAMBDA_RATE_LAMBDA": "0", "CONSUL_LAMBDA_RATE_GET_FUNCTION": "0", "CONSUL_LAMBDA_RATE_TAGGING": "0",
	"CONSUL_LAMBDA_RATE_SSM_PUT": "0", "CONSUL_LAMBDA_RATE_CONSUL": "0",
}

// with returns the variables that switch the rates off, and others.
func with(more env) env {
	all := maps.Clone(unlimited)
	maps.Copy(all, more)
	return all
}

// newAccount makes one that ends with the test, and then looks for secrets in the registrator's log. Rates are off unless cfg has
// variables of its own.
func newAccount(t testing.TB, cfg lab.ControlConfig) *account {
	t.Helper()
	return newAccountIn(t, "", cfg)
}

func newAccountIn(t testing.TB, id string, cfg lab.ControlConfig) *account {
	t.Helper()
	w, err := lab.New(t.Context(), lab.Config{Programs: programs(t), Account: id, Unregistered: true})
	ok(t, err)
	t.Cleanup(func() { ok(t, w.Close()) })
	return newControl(t, w, cfg)
}

func newControl(t testing.TB, w *lab.World, cfg lab.ControlConfig) *account {
	t.Helper()
	if cfg.Env == nil {
		cfg.Env = unlimited
	}
	c, err := w.StartControl(cfg)
	ok(t, err)
	a := &account{TB: t, Control: c, world: w}
	t.Cleanup(func() {
		a.checkLog()
		c.Close()
	})
	return a
}

// checkLog fails the test if the log holds any line of a key or a certificate that is stored (R18), and shows it if the test failed.
func (a *account) checkLog() {
	a.Helper()
	box := a.Sandbox()
	if box == nil {
		return
	}
	var lines []string
	for _, l := range box.Logs() {
		lines = append(lines, l.Text)
	}
	log := strings.Join(lines, "\n")
	for _, name := range a.world.Store.Names() {
		p, _ := a.world.Store.Get(name)
		for line := range strings.SplitSeq(strings.ReplaceAll(p.Value, `\n`, "\n"), "\n") {
			if len(line) >= 16 && !strings.ContainsAny(line, `-"{} `) && strings.Contains(log, line) {
				a.Errorf("the log holds a line of %s", name)
			}
		}
	}
	if a.Failed() {
		a.Logf("log of the registrator:\n%s", log[max(0, len(log)-8000):])
	}
}

func (a *account) context() context.Context {
	ctx, cancel := context.WithTimeout(a.Context(), patience)
	a.Cleanup(cancel)
	return ctx
}

// settle waits until all events were delivered.
func (a *account) settle() {
	a.Helper()
	ok(a, a.AWS.WaitEvents(a.context()))
}

// result is what the registrator answers. It says nothing else.
type result struct {
	Created  int      `json:"created"`
	Updated  int      `json:"updated"`
	Renewed  int      `json:"renewed"`
	Deleted  int      `json:"deleted"`
	Skipped  int      `json:"skipped"`
	Failed   int      `json:"failed"`
	Warned   int      `json:"warned"`
	Enabled  int      `json:"enabled"`
	LeafLeft string   `json:"leafLeft"`
	LeafOf   string   `json:"leafOf"`
	Changed  []string `json:"changed"`
	Left     []note   `json:"left"`
	Failures []note   `json:"failures"`
	Warnings []note   `json:"warnings"`
	Plan     any      `json:"plan"`
}

type note struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// read returns the answer of an invocation that must not have failed.
func (a *account) read(r lambdasim.Result, err error) (out result) {
	a.Helper()
	ok(a, err)
	if r.FunctionError != "" {
		a.Fatalf("the invocation failed: %s", r.Payload)
	}
	d := json.NewDecoder(strings.NewReader(string(r.Payload)))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil {
		a.Fatalf("the answer is %s: %v", r.Payload, err)
	}
	return out
}

// run makes a full run, which must succeed.
func (a *account) run() result {
	a.Helper()
	return a.read(a.Schedule(a.context()))
}

// failure makes a full run, which must fail, and returns the message.
func (a *account) failure() string {
	a.Helper()
	return a.message(a.Schedule(a.context()))
}

// message returns that of an invocation that must have failed by itself.
func (a *account) message(r lambdasim.Result, err error) string {
	a.Helper()
	ok(a, err)
	var failed struct {
		Message string `json:"errorMessage"`
	}
	if err := json.Unmarshal(r.Payload, &failed); err != nil || r.FunctionError == "" || failed.Message == "" {
		a.Fatalf("the invocation did not fail: %s", r.Payload)
	}
	return failed.Message
}

// enabled are the tags of a function that takes part.
func enabled() map[string]string { return map[string]string{lab.EnabledTag: "true"} }

// name is that of the nth function of many.
func name(n int) string { return fmt.Sprintf("fn-%05d", n) }

// addFunctions adds n functions, of which the first so many take part.
func (a *account) addFunctions(n, taking int) {
	functions := make([]controlsim.Function, n)
	for i := range functions {
		functions[i] = controlsim.Function{Name: name(i), Tags: map[string]string{"team": "shop"}}
		if i < taking {
			functions[i].Tags = enabled()
		}
	}
	a.AWS.AddFunctions(functions...)
}

// path is where the document of a function is stored.
func path(name string) string { return "/consul/lambda/default/default/" + name }

// document returns a function's, which must be there and stored encrypted.
func (a *account) document(name string) mesh.Document {
	a.Helper()
	p, found := a.world.Store.Get(path(name))
	if !found {
		a.Fatalf("there is no %s; there are %v", path(name), a.world.Store.Names())
	}
	if p.Type != "SecureString" {
		a.Errorf("%s is a %s", path(name), p.Type)
	}
	doc, err := mesh.ParseDocument([]byte(p.Value))
	ok(a, err)
	return doc
}

// registered returns the names of the services that are in the catalog, sorted.
func (a *account) registered() (names []string) {
	for _, s := range a.Consul.Services() {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

// state is all that the registrator has written, but for heartbeats.
func (a *account) state() string {
	var b strings.Builder
	for _, s := range a.Consul.Services() {
		fmt.Fprintf(&b, "%s %v %v\n%s\n", s.Name, s.Tags, s.Meta, a.Consul.Entry(s.Name))
	}
	for _, name := range a.world.Store.Names() {
		p, _ := a.world.Store.Get(name)
		fmt.Fprintf(&b, "%s %d\n", name, p.Version)
	}
	return b.String()
}

// sameState fails the test if anything was changed.
func (a *account) sameState(before string) {
	a.Helper()
	if now := a.state(); now != before {
		a.Errorf("before:\n%s\nnow:\n%s", before, now)
	}
}

func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("it does not say %q:\n%s", p, text)
		}
	}
}
