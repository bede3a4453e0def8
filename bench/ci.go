// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// CIConfig says what RunCI checks, and against what. All but Update is needed.
type CIConfig struct {
	Extension string    // our binary
	Baseline  string    // the binary of bench/baseline
	Expected  string    // file of expected ratios
	Update    bool      // make that file from what is measured, and judge no ratio
	Counts    bool      // check only what is counted exactly, on a machine that need not be quiet: no ratio
	Out       io.Writer // gets one line for each check
}

// expectations are what the file of expected ratios holds.
type expectations struct {
	Machine Machine            // where they were measured
	Ratios  map[string]float64 // by gate: our figure divided by the baseline's
}

// RunCI checks within a few minutes that nothing became slower. It counts system calls against fixed limits, and compares
// CPU time, latency and memory with the baseline's in the same run, against the ratios that are expected: absolute times say
// more about a machine than about a change. Ratios depend on the processor too, but less. A check that fails, or cannot be
// made, does not stop the others; the error says how many there were.
func RunCI(ctx context.Context, cfg CIConfig) error {
	if !supported {
		return errUnsupported
	}
	expected := expectations{Ratios: make(map[string]float64)}
	if !cfg.Update {
		b, err := os.ReadFile(cfg.Expected)
		if err == nil {
			err = json.Unmarshal(b, &expected)
		}
		if err != nil {
			return fmt.Errorf("bench: reading the expected ratios: %w", err)
		}
	}
	h, err := newHarness(Config{
		Extension: cfg.Extension, Baseline: cfg.Baseline, Systems: []string{Ours, OursNoSpare, Baseline}, Quick: true,
	})
	if err != nil {
		return err
	}
	defer h.close()
	began := time.Now()
	ci := &ciRun{harness: h, cfg: cfg, expected: expected.Ratios}
	ci.countCalls(ctx)
	if !cfg.Counts {
		ci.passGates(ctx)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	_, _ = fmt.Fprintf(cfg.Out, "%d checks took %s\n", ci.done, time.Since(began).Round(time.Second))
	if ci.failed > 0 {
		return fmt.Errorf("bench: %d of %d checks failed", ci.failed, ci.done)
	}
	if !cfg.Update {
		return nil
	}
	expected.Machine = machine()
	b, err := json.MarshalIndent(expected, "", "  ")
	if err == nil {
		err = os.WriteFile(cfg.Expected, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("bench: writing the expected ratios: %w", err)
	}
	return nil
}

// ciRun is a run of checks under way.
type ciRun struct {
	*harness
	cfg          CIConfig
	expected     map[string]float64
	done, failed int
}

// of returns the systems of these names.
func (ci *ciRun) of(names ...string) []*system {
	found := make([]*system, len(names))
	for i, name := range names {
		found[i] = ci.systems[slices.IndexFunc(ci.systems, func(s *system) bool { return s.name == name })]
	}
	return found
}

// line says what came of a check.
func (ci *ciRun) line(ok bool, what, measured, limit, remark string) {
	verdict := "ok"
	ci.done++
	if !ok {
		verdict = "FAIL"
		ci.failed++
	}
	_, _ = fmt.Fprintf(ci.cfg.Out, "%-4s  %-52s %-17s %-30s %s\n", verdict, what, measured, limit, remark)
}

// broken says that a check could not be made, unless that is the end of the run.
func (ci *ciRun) broken(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		ci.line(false, what, "not measured", "", err.Error())
	}
}

// passGates measures round after round, with new processes in each, until every gate is decided.
func (ci *ciRun) passGates(ctx context.Context) {
	var open []*ballot
	for _, g := range gates {
		expected, known := ci.expected[g.name]
		if !known && !ci.cfg.Update {
			ci.broken(ctx, g.what, fmt.Errorf("%s expects no ratio %q", ci.cfg.Expected, g.name))
			continue
		}
		open = append(open, &ballot{gate: g, limit: expected * (1 + g.slack)})
	}
	for round := 0; len(open) > 0 && ctx.Err() == nil; round++ {
		open = slices.DeleteFunc(open, func(b *ballot) bool { return ci.vote(ctx, b, round) })
		ci.stopAll()
	}
}

// vote measures a gate once more, and reports whether that was the last time.
func (ci *ciRun) vote(ctx context.Context, b *ballot, turn int) (done bool) {
	systems := ci.of(b.system, Baseline)
	ours, theirs := 0, 1
	if turn%2 == 1 { // who comes first takes turns
		slices.Reverse(systems)
		ours, theirs = theirs, ours
	}
	figures, err := b.measure(ctx, ci.harness, systems)
	if err == nil && (figures[ours] <= 0 || figures[theirs] <= 0) {
		err = fmt.Errorf("no ratio can be made of %v", figures)
	}
	if err != nil {
		ci.broken(ctx, b.what, fmt.Errorf("round %d: %w", turn+1, err))
		return true
	}
	b.ratios = append(b.ratios, figures[ours]/figures[theirs])
	if ci.cfg.Update && len(b.ratios) < mostRounds || !ci.cfg.Update && !b.decided() {
		return false
	}
	measured := fmt.Sprintf("%.3f × baseline", median(b.ratios))
	remark := fmt.Sprintf("%d rounds, %.3f to %.3f", len(b.ratios), slices.Min(b.ratios), slices.Max(b.ratios))
	if ci.cfg.Update {
		ci.expected[b.name] = round(median(b.ratios))
		ci.line(true, b.what, measured, "expected from now on", remark)
	} else {
		ci.line(b.within(), b.what, measured, fmt.Sprintf("limit %.3f (%.3f + %.0f %%)", b.limit, b.limit/(1+b.slack), 100*b.slack), remark)
	}
	return true
}
