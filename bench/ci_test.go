// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// simulate returns the share of a thousand ballots that fail, and how many rounds they take on average. The expected ratio
// is 1, and the figures really are drift times what was expected; each round scatters by the given share, normally, and one
// in ten rounds, outliers, is off by half.
func simulate(drift, scatter float64) (failed, rounds float64) {
	const runs = 1000
	failures, votes := 0, 0
	rnd := rand.New(rand.NewPCG(1, 2))
	for range runs {
		b := &ballot{limit: 1 + slackCPU}
		for len(b.ratios) == 0 || !b.decided() {
			ratio := drift * math.Exp(scatter*rnd.NormFloat64())
			if rnd.IntN(10) == 0 {
				ratio *= []float64{1.5, 1 / 1.5}[rnd.IntN(2)]
			}
			b.ratios = append(b.ratios, ratio)
		}
		votes += len(b.ratios)
		if !b.within() {
			failures++
		}
	}
	return float64(failures) / runs, float64(votes) / runs
}

// Noise does not fail a run, a regression of a quarter and more does, and what is clear takes few rounds.
func TestTheVoteTellsARegressionFromNoise(t *testing.T) {
	for _, c := range []struct {
		name             string
		drift, scatter   float64
		least, most, max float64 // share of failures; rounds
	}{
		{"nothing changed, a quiet machine", 1, 0.04, 0, 0, 7},
		{"nothing changed, a busy machine", 1, 0.10, 0, 0.001, 9},
		{"nothing changed, a very busy machine", 1, 0.15, 0, 0.01, 12},
		{"the expectation is from another machine", 1.05, 0.08, 0, 0.005, 12},
		{"half as much again, a very busy machine", 1.5, 0.15, 0.999, 1, 9},
		{"a quarter more, a quiet machine", 1.25, 0.04, 0.999, 1, 8},
		{"a quarter more, a busy machine", 1.25, 0.10, 0.98, 1, 14},
		{"a fifth more, a quiet machine", 1.20, 0.04, 0.98, 1, 14},
		{"at the limit", 1.15, 0.10, 0.4, 0.6, mostRounds},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			failed, rounds := simulate(c.drift, c.scatter)
			t.Logf("%.1f %% fail, after %.1f rounds", 100*failed, rounds)
			if failed < c.least || failed > c.most {
				t.Errorf("%.1f %% fail, want %.1f to %.1f %%", 100*failed, 100*c.least, 100*c.most)
			}
			if rounds > c.max {
				t.Errorf("%.1f rounds on average, want %v at most", rounds, c.max)
			}
		})
	}
}

func TestAVoteEnds(t *testing.T) {
	b := &ballot{limit: 1}
	for !b.decided() || len(b.ratios) == 0 {
		b.ratios = append(b.ratios, 0.5+float64(len(b.ratios)%2)) // never ahead
	}
	if len(b.ratios) != mostRounds || !b.within() {
		t.Errorf("it took %d rounds, within is %t", len(b.ratios), b.within())
	}
}

func TestSystemCallsAreCounted(t *testing.T) {
	if !supported {
		t.Skip(errUnsupported)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before, err := callsOf(os.Getpid())
	if err != nil {
		t.Skip(err) // a kernel without task accounting
	}
	const writes = 1000
	for range writes {
		if _, err := f.WriteString("x"); err != nil {
			t.Fatal(err)
		}
	}
	after, err := callsOf(os.Getpid())
	if n := after.writes - before.writes; err != nil || n < writes || n > 2*writes {
		t.Errorf("%d writes were counted, %v, want %d and a few", n, err, writes)
	}
	if n := after.reads - before.reads; n < 1 || n > writes/2 {
		t.Errorf("%d reads were counted, want a few", n)
	}
	if _, err := callsOf(-1); err == nil {
		t.Error("the calls of a process that does not exist were counted")
	}
}

// A run with the baseline in both parts: what is slower than expected fails, a missing expectation does, and the rest goes on.
func TestCIFailsWhatIsAboveItsExpectation(t *testing.T) {
	if !supported {
		t.Skip(errUnsupported)
	}
	all, allCalls := gates, callLimits
	some := callLimits[3]
	some.units, some.work = few, fewConnections
	none, plenty := some, some
	none.what, none.reads, none.writes = "no calls at all", 0, 0
	plenty.what, plenty.reads, plenty.writes = "as many calls as it likes", 1000, 1000
	gates, callLimits = []*gate{brief(all[0]), brief(all[1]), all[5]}, []callLimit{none, plenty}
	defer func() { gates, callLimits = all, allCalls }()
	binary := buildBaseline(t)
	file := filepath.Join(t.TempDir(), "ci.json")
	var out bytes.Buffer
	cfg := CIConfig{Extension: binary, Baseline: binary, Expected: file, Out: &out}
	write := func(ratios map[string]float64) {
		b, err := json.Marshal(expectations{Ratios: ratios})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(map[string]float64{"connect-cpu": 0.3, "down-cpu": 3})
	err := RunCI(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "checks failed") {
		t.Errorf("it ended with %v", err)
	}
	for _, want := range []string{
		"FAIL  " + all[0].what, "ok    " + all[1].what, "FAIL  " + all[5].what, `expects no ratio "start-p50"`,
		"FAIL  " + none.what, "ok    " + plenty.what,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

// few is a number of connections.
const few = 6

// fewConnections makes the system busy for a moment.
func fewConnections(ctx context.Context, in *instance) error {
	_, err := in.paced(ctx, few, 0)
	return err
}

// brief is a gate that measures what g does in its first round. In later rounds, to save time, it measures the CPU time of a few
// connections instead.
func brief(g *gate) *gate {
	later := inTurn(func(ctx context.Context, in *instance) (float64, error) {
		return in.charged(func() error { return fewConnections(ctx, in) })
	})
	b, first := *g, true
	b.measure = func(ctx context.Context, h *harness, systems []*system) ([]float64, error) {
		if first {
			first = false
			return g.measure(ctx, h, systems)
		}
		return later(ctx, h, systems)
	}
	return &b
}

func TestCINeedsItsExpectations(t *testing.T) {
	if !supported {
		t.Skip(errUnsupported)
	}
	err := RunCI(t.Context(), CIConfig{Expected: "nowhere.json", Out: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "nowhere.json") {
		t.Errorf("it ended with %v", err)
	}
}
