// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"
)

// Result is everything that a run found out. What is written about it is computed from it alone.
type Result struct {
	Command  string // that makes it again
	Date     time.Time
	Took     time.Duration // in nanoseconds
	Version  string        // of this repository
	Machine  Machine
	Settings Settings
	Systems  []SystemInfo
	Cells    []Cell
	Curves   []Curve
	Skipped  []string // what could not be asked of this machine, and why
	Failures []string // what went wrong; the cells concerned are missing, or rest on fewer rounds
}

// Machine is where a run took place.
type Machine struct {
	CPU    string
	Cores  int
	OS     string
	Kernel string
	Go     string
}

func newMachine() Machine {
	return Machine{CPU: "unknown", Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Kernel: "unknown", Go: runtime.Version()}
}

// Settings are how much was measured.
type Settings struct {
	Quick     bool
	Rounds    int
	BulkBytes int64 // moved for each figure of a round
}

// SystemInfo says what was measured.
type SystemInfo struct {
	Name    string
	Version string // as its program says; empty if it does not
	Bytes   int64  // size of its program
}

// Cell is one figure: a row and a system have a few of them, told apart by Metric.
type Cell struct {
	Row, System, Metric string
	Unit                string
	Value               float64   // median of Rounds; for a p99 that of all rounds' latencies together
	Rounds              []float64 // in order
}

// Curve is a distribution of latencies over all rounds, in milliseconds.
type Curve struct {
	Row, System string
	Count       int
	Quantiles   []float64 // 0, 1 % … 100 %
}

// WriteJSON writes the result so that ReadResult reads it.
func (r *Result) WriteJSON(w io.Writer) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("bench: encoding the result: %w", err)
	}
	// One line per figure: readable in a diff.
	if _, err := w.Write(append(breakLines(b), '\n')); err != nil {
		return fmt.Errorf("bench: writing the result: %w", err)
	}
	return nil
}

// breakLines puts each object that is an element of a list on a line of its own. Strings in a result hold no "},{".
func breakLines(b []byte) []byte {
	var out []byte
	for i := 0; i < len(b); i++ {
		out = append(out, b[i])
		if b[i] == ',' && i > 0 && b[i-1] == '}' || b[i] == '[' && i+1 < len(b) && b[i+1] == '{' {
			out = append(out, '\n')
		}
	}
	return out
}

// ReadResult reads what WriteJSON wrote. One without a figure is an error: it is another file.
func ReadResult(r io.Reader) (*Result, error) {
	var result Result
	if err := json.NewDecoder(r).Decode(&result); err != nil {
		return nil, fmt.Errorf("bench: reading a result: %w", err)
	}
	if len(result.Cells) == 0 {
		return nil, errNoFigures
	}
	return &result, nil
}

// cell returns a figure.
func (r *Result) cell(row, system, metric string) (Cell, bool) {
	i := slices.IndexFunc(r.Cells, func(c Cell) bool { return c.Row == row && c.System == system && c.Metric == metric })
	if i < 0 {
		return Cell{}, false
	}
	return r.Cells[i], true
}

// has reports whether the system took part.
func (r *Result) has(system string) bool {
	return slices.ContainsFunc(r.Systems, func(s SystemInfo) bool { return s.Name == system })
}

// collector gathers figures while a run goes on.
type collector struct {
	result *Result
	pools  map[[2]string]*pool // by row and system
}

// pool is all latencies of a row and a system.
type pool struct {
	unit    time.Duration
	metrics map[string]float64 // which cells are quantiles of all rounds together
	values  []float64
}

// add records this round's figure.
func (c *collector) add(row, system, metric, unit string, value float64) {
	for i := range c.result.Cells {
		if x := &c.result.Cells[i]; x.Row == row && x.System == system && x.Metric == metric {
			x.Rounds = append(x.Rounds, round(value))
			return
		}
	}
	c.result.Cells = append(c.result.Cells, Cell{Row: row, System: system, Metric: metric, Unit: unit, Rounds: []float64{round(value)}})
}

// latencies records this round's p50 and p99, and keeps all for the curve.
func (c *collector) latencies(row, system string, unit time.Duration, took []time.Duration) {
	if len(took) == 0 {
		return
	}
	name := map[time.Duration]string{time.Millisecond: "ms", time.Microsecond: "µs"}[unit]
	values := inUnits(unit, took)
	slices.Sort(values)
	c.add(row, system, p50, name, quantile(values, 0.5))
	c.add(row, system, p99, name, quantile(values, 0.99))
	key := [2]string{row, system}
	if c.pools[key] == nil {
		c.pools[key] = &pool{unit: unit, metrics: map[string]float64{p99: 0.99}}
	}
	c.pools[key].values = append(c.pools[key].values, values...)
}

// finish computes what rests on all rounds.
func (c *collector) finish() {
	for i := range c.result.Cells {
		x := &c.result.Cells[i]
		x.Value = round(median(x.Rounds))
		if p := c.pools[[2]string{x.Row, x.System}]; p != nil {
			if q, ok := p.metrics[x.Metric]; ok {
				x.Value = round(quantile(slices.Sorted(slices.Values(p.values)), q))
			}
		}
	}
	for key, p := range c.pools {
		values := make([]float64, len(p.values))
		for i, v := range p.values {
			values[i] = v * float64(p.unit) / float64(time.Millisecond)
		}
		c.result.Curves = append(c.result.Curves, Curve{Row: key[0], System: key[1], Count: len(values), Quantiles: curve(values)})
	}
	order := func(name string) int {
		return slices.IndexFunc(c.result.Systems, func(s SystemInfo) bool { return s.Name == name })
	}
	slices.SortFunc(c.result.Curves, func(a, b Curve) int {
		if a.Row != b.Row {
			return rowIndex(a.Row) - rowIndex(b.Row)
		}
		return order(a.System) - order(b.System)
	})
}
