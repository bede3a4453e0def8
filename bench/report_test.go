// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// measured is a result with some figures, each in one round.
func measured(figures ...Cell) *Result {
	r := &Result{Settings: Settings{Rounds: 1, BulkBytes: 1 << 20}}
	for _, c := range figures {
		c.Rounds = []float64{c.Value}
		r.Cells = append(r.Cells, c)
		if !r.has(c.System) {
			r.Systems = append(r.Systems, SystemInfo{Name: c.System})
		}
	}
	return r
}

// verdict is that of the first budget of a row and a metric.
func verdict(t *testing.T, r *Result, row, metric string) judgement {
	t.Helper()
	for _, j := range r.judge() {
		if j.row == row && j.metric == metric {
			return j
		}
	}
	t.Fatalf("no budget for %s, %s", row, metric)
	return judgement{}
}

func TestABudgetIsJudgedByItsLimits(t *testing.T) {
	connect := func(ours, baseline float64) *Result {
		return measured(Cell{Row: "connect-0ms", System: Ours, Metric: p50, Unit: "ms", Value: ours},
			Cell{Row: "connect-0ms", System: Baseline, Metric: p50, Unit: "ms", Value: baseline})
	}
	for _, c := range []struct {
		name        string
		result      *Result
		row, metric string
		want        string
		must        float64
	}{
		{"at the aim", connect(0.3, 2), "connect-0ms", p50, atAim, 0.5},
		{"between must and aim", connect(0.4, 2), "connect-0ms", p50, kept, 0.5},
		{"past must", connect(0.6, 2), "connect-0ms", p50, missed, 0.5},
		{"nothing measured", measured(), "connect-0ms", p50, notMeasured, 0},
		{"nobody to compare with", measured(Cell{Row: "connect-0ms", System: Ours, Metric: p50, Value: 1}), "connect-0ms", p50, noReference, 0},
		{"an absolute limit", measured(Cell{Row: "memory", System: Ours, Metric: perIdle, Unit: "KiB", Value: 20}), "memory", perIdle, kept, 24},
		{"the strictest of two limits", measured(
			Cell{Row: "down-1", System: Ours, Metric: cpuPerGB, Value: 0.9},
			Cell{Row: "down-1", System: Baseline, Metric: cpuPerGB, Value: 1},
			Cell{Row: "down-1", System: "nginx", Metric: cpuPerGB, Value: 0.8},
			Cell{Row: "down-1", System: "haproxy", Metric: cpuPerGB, Value: 0.85}), "down-1", cpuPerGB, missed, 0.8},
		{"more is better", measured(
			Cell{Row: "connect-loop", System: Ours, Metric: rate, Value: 1300},
			Cell{Row: "connect-loop", System: Baseline, Metric: rate, Value: 1000},
			Cell{Row: "connect-loop", System: "nginx", Metric: rate, Value: 1500}), "connect-loop", rate, kept, 1200},
		{"another system and unit", measured(
			Cell{Row: "connect-0ms", System: OursNoSpare, Metric: cpuPerUnit, Unit: "µs", Value: 600},
			Cell{Row: "connect-0ms", System: Baseline, Metric: cpuPerUnit, Unit: "µs", Value: 1000}), "connect-0ms", cpuPerUnit, kept, 0.7},
		{"the predecessor before the baseline", measured(
			Cell{Row: "connect-0ms", System: Ours, Metric: p50, Value: 0.4},
			Cell{Row: "connect-0ms", System: Baseline, Metric: p50, Value: 1},
			Cell{Row: "connect-0ms", System: Predecessor, Metric: p50, Value: 2}), "connect-0ms", p50, kept, 0.5},
		{"a start is not compared with the baseline's", measured(
			Cell{Row: "coldstart", System: Ours, Metric: toRegister, Value: 1},
			Cell{Row: "coldstart", System: Baseline, Metric: toRegister, Value: 10}), "coldstart", toRegister, noReference, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := verdict(t, c.result, c.row, c.metric)
			if j.verdict != c.want {
				t.Errorf("verdict is %q, want %q (%+v)", j.verdict, c.want, j)
			}
			if c.must != 0 && (j.must < c.must*0.999 || j.must > c.must*1.001) {
				t.Errorf("the limit is %v, want %v", j.must, c.must)
			}
		})
	}
}

func TestABudgetIsJudgedInEachRoundByThatRoundsFigures(t *testing.T) {
	result := func(failures ...string) *Result {
		r := measured(Cell{Row: "connect-0ms", System: Ours, Metric: p50, Value: 0.4}, Cell{Row: "connect-0ms", System: Baseline, Metric: p50, Value: 2})
		r.Settings.Rounds = 4
		r.Cells[0].Rounds, r.Cells[1].Rounds = []float64{0.4, 0.6, 0.4, 0.6}, []float64{2, 2, 1, 4} // held, missed, missed, held
		r.Failures = failures
		return r
	}
	if j := verdict(t, result(), "connect-0ms", p50); j.verdict != kept || j.held != 2 || j.rounds != 4 {
		t.Errorf("%s, held in %d of %d rounds", j.verdict, j.held, j.rounds)
	}
	if j := verdict(t, result("a round without a figure"), "connect-0ms", p50); j.verdict != kept || j.rounds != 0 {
		t.Errorf("with a failure: %s, held in %d of %d rounds", j.verdict, j.held, j.rounds)
	}
}

// What is budgeted is measured: every budget names a row, a system and a metric that a run has.
func TestEveryBudgetHasItsRow(t *testing.T) {
	for _, b := range budgets {
		if b.row == programRow {
			continue
		}
		i := rowIndex(b.row)
		if i < 0 {
			t.Errorf("%s: no row %q", b.what, b.row)
			continue
		}
		if !strings.Contains(strings.Join(rows[i].metrics, ","), b.metric) {
			t.Errorf("%s: row %s has no %q", b.what, b.row, b.metric)
		}
	}
}

func TestAResultSurvivesItsFile(t *testing.T) {
	want := measured(Cell{Row: "memory", System: Ours, Metric: perIdle, Unit: "KiB", Value: 20})
	want.Curves = []Curve{{Row: "connect-0ms", System: Ours, Count: 3, Quantiles: []float64{1, 2, 3}}}
	want.Failures = []string{"one, with {braces}"}
	var file bytes.Buffer
	if err := want.WriteJSON(&file); err != nil {
		t.Fatal(err)
	}
	got, err := ReadResult(&file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := ReadResult(strings.NewReader("{")); err == nil {
		t.Error("half a file was read")
	}
}

func TestAReportShowsFiguresRatiosAndFailures(t *testing.T) {
	r := measured(
		Cell{Row: "connect-0ms", System: Ours, Metric: p50, Unit: "ms", Value: 0.4},
		Cell{Row: "connect-0ms", System: Baseline, Metric: p50, Unit: "ms", Value: 2})
	r.Curves = []Curve{{Row: "connect-0ms", System: Ours, Count: 3, Quantiles: []float64{1, 2, 3}}}
	r.Failures = []string{"memory,\nbaseline"}
	var b bytes.Buffer
	if err := r.WriteMarkdown(&b, "bench/results"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| consul-lambda | **0.400 ms** ×0.20 | – | – |", "≤ 0.25 × = 0.500 ms", "| kept |", "(bench/results/connect-0ms.svg)", "- memory, baseline",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Memory at rest and") {
		t.Errorf("the report shows what was not measured:\n%s", &b)
	}
}

// A picture is well-formed whatever systems are called and whatever their figures are, and names all of them.
func TestPicturesAreWellFormed(t *testing.T) {
	r := measured(
		Cell{Row: "down-1", System: "<&>", Metric: cpuPerGB, Unit: "s/GB", Value: 0.5},
		Cell{Row: "down-1", System: "zero", Metric: cpuPerGB, Unit: "s/GB", Value: 0},
		Cell{Row: "memory", System: "less than none", Metric: perIdle, Unit: "KiB", Value: -1})
	r.Curves = []Curve{
		{Row: "connect-0ms", System: "<&>", Count: 2, Quantiles: []float64{0, 1, 2}},
		{Row: "connect-20ms", System: "flat", Count: 2, Quantiles: []float64{5, 5, 5}},
	}
	dir := t.TempDir()
	if err := r.WritePlots(dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%v, %v: want 4 pictures", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "prefers-color-scheme:dark") || strings.Contains(string(b), "NaN") || strings.Contains(string(b), `width="-`) {
			t.Errorf("%s: %s", file, b)
		}
		for d := xml.NewDecoder(bytes.NewReader(b)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
	}
}
