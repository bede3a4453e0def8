// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/emf/emftest"
	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
)

// metrics returns the lines of metrics in the registrator's log, once there are so many lines of the kind that a run
// ends with: a log comes later than an answer. Each line must be what CloudWatch takes.
func (a *account) metrics(runs int, is func(line string) bool) (lines []emftest.Line) {
	a.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for finished := 0; finished < runs; <-tick.C {
		if time.Now().After(deadline) {
			a.Fatalf("%d runs in the log, want %d", finished, runs)
		}
		finished = 0
		for _, l := range a.Sandbox().Logs() {
			if is(l.Text) {
				finished++
			}
		}
	}
	for _, l := range a.Sandbox().Logs() {
		if !emftest.IsOne(l.Text) {
			continue
		}
		m, err := emftest.Parse(l.Text)
		if err != nil {
			a.Errorf("%v in %s", err, l.Text)
		}
		lines = append(lines, m)
	}
	return lines
}

// G10: what a run answers is what its metrics say. The alarms of the Terraform module name FullRuns, LeafLifeLeftSeconds and the
// dimension.
func TestARunsMetricsSayWhatItAnswers(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Env: with(env{"CONSUL_LAMBDA_METRICS": "emf"}), Quiet: true, Timeout: 10 * time.Second})
	a.addFunctions(3, 2)
	r := a.run()
	a.run()

	lines := a.metrics(2, emftest.IsOne)
	if len(lines) != 2 {
		t.Fatalf("%d lines of metrics, want one a run", len(lines))
	}
	m := lines[0]
	if m.Namespace != "ConsulLambda/Registrator" || len(m.Dimensions) != 1 || m.Dimensions["FunctionName"] == "" {
		t.Errorf("%s %v", m.Namespace, m.Dimensions)
	}
	for name, want := range map[string]int{
		"FullRuns": 1, "Created": 2, "Updated": r.Updated, "Renewed": r.Renewed, "Deleted": 0, "Skipped": 0, "Failed": 0, "Warned": r.Warned, "Enabled": 2,
	} {
		if v := m.Metrics[name]; len(v) != 1 || v[0] != float64(want) || m.Units[name] != "Count" {
			t.Errorf("%s is %v %s, want %d", name, v, m.Units[name], want)
		}
	}
	if r.Created != 2 || m.Sum("LeafLifeLeftSeconds") <= 0 || m.Sum("DurationMilliseconds") <= 0 {
		t.Errorf("%v for %+v", m.Metrics, r)
	}
	if again := lines[1]; again.Sum("Created") != 0 || len(again.Metrics["Created"]) != 1 || again.Sum("FullRuns") != 1 || again.Sum("Enabled") != 2 {
		t.Errorf("of a second run, which is empty: %v", again.Metrics)
	}
}

// A run that could not see everything did nothing (G2): it is no full run, whatever the alarm waits for.
func TestARunThatCouldNotLookIsNoFullRun(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Env: with(env{"CONSUL_LAMBDA_METRICS": "emf"}), Quiet: true, Timeout: 10 * time.Second})
	a.addFunctions(1, 1)
	a.run()
	a.AWS.FailAll("GetResources", controlsim.Truncate())
	a.failure()
	lines := a.metrics(2, emftest.IsOne)
	if len(lines) != 2 || lines[1].Sum("FullRuns") != 0 || lines[1].Sum("Failed") != 1 || lines[1].Metrics["Enabled"] != nil {
		t.Errorf("%v", lines)
	}
}

func TestThereAreNoRunMetricsUnlessAskedFor(t *testing.T) {
	t.Parallel()
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.run()
	a.run() // so that all of the first is there
	ended := func(line string) bool { return strings.Contains(line, `"run finished"`) }
	if n := len(a.metrics(2, ended)); n != 0 {
		t.Errorf("%d lines of metrics", n)
	}
}
