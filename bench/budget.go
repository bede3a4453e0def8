// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"math"
	"slices"
)

// budget is one row of the design's table of budgets, as far as the data plane is concerned, and how it is judged. A
// factor of a reference counts only if that took part.
type budget struct {
	what        string
	row, metric string
	system      string // "": Ours
	scale       float64
	unit        string // "": the cell's
	atLeast     bool   // more is better
	start       bool   // the baseline is no reference: it starts with our own libraries
	must, aim   limit
}

// limit is the strictest of what is given; zero fields do not count.
type limit struct {
	absolute float64
	ofRef    float64 // times the reference's figure
	ofPeer   float64 // times the best peer's
	ofNginx  float64
}

// The reference of the factors is the predecessor, or the baseline where that did not take part.
func (r *Result) reference() string {
	if r.has(Predecessor) {
		return Predecessor
	}
	return Baseline
}

var budgets = []budget{
	{what: "new connection + first answer, p50, spare ready, 5 ms apart, 0 RTT", row: "connect-0ms", metric: p50, must: limit{ofRef: 0.25}, aim: limit{ofRef: 0.15}},
	{what: "the same at 20 ms RTT, 60 ms apart", row: "connect-20ms", metric: p50, unit: "ms", must: limit{absolute: 23}, aim: limit{absolute: 21}},
	{what: "at 128 MB's CPU share: first call after a cold start, p50", row: "share-128", metric: firstCall, unit: "ms", must: limit{absolute: 8}, aim: limit{absolute: 2}},
	{what: "at 128 MB's CPU share: new connections 300 ms apart, p99", row: "share-128", metric: p99, unit: "ms", must: limit{absolute: 2}, aim: limit{absolute: 1}},
	{what: "new connection, no spare, resumed: CPU", row: "connect-0ms", metric: cpuPerUnit, system: OursNoSpare, scale: 1e-3, unit: "ms", must: limit{ofRef: 0.70}, aim: limit{ofRef: 0.5}},
	{what: "closed loop of new connections: rate", row: "connect-loop", metric: rate, atLeast: true, must: limit{ofRef: 1.2}, aim: limit{ofNginx: 1}},
	{what: "bulk down, CPU", row: "down-1", metric: cpuPerGB, must: limit{ofRef: 0.92, ofPeer: 1}, aim: limit{ofRef: 0.75}},
	{what: "bulk up, CPU", row: "up-1", metric: cpuPerGB, must: limit{ofRef: 0.80, ofPeer: 1}, aim: limit{ofRef: 0.75}},
	{what: "1 KiB ping-pong, p50", row: "pingpong", metric: p50, must: limit{ofRef: 1, ofPeer: 1.1}, aim: limit{ofRef: 0.9}},
	{what: "1 KiB ping-pong, CPU", row: "pingpong", metric: cpuPerUnit, must: limit{ofRef: 1, ofPeer: 1.1}, aim: limit{ofRef: 0.9}},
	{what: "memory per idle connection", row: "memory", metric: perIdle, unit: "KiB", must: limit{absolute: 24}, aim: limit{absolute: 16}},
	{what: "start → register, p50", row: "coldstart", metric: toRegister, start: true, must: limit{ofRef: 0.60}, aim: limit{ofRef: 0.5}},
	{what: "start → first byte through the mesh, p50, 15 ms store", row: "coldstart", metric: toFirstByte, unit: "ms", must: limit{absolute: 23}, aim: limit{absolute: 20}},
	{what: "memory at rest", row: "memory", metric: atRest, unit: "MB", must: limit{absolute: 10}, aim: limit{absolute: 8}},
	{what: "stripped binary", row: programRow, metric: programSize, unit: "MB", must: limit{absolute: 8}, aim: limit{absolute: 7}},
}

// A program's size is no measurement, but has a budget: it is a row of its own that every run has.
const (
	programRow  = "program"
	programSize = "size"
)

// The verdicts.
const (
	missed      = "missed"
	kept        = "kept"
	atAim       = "at its aim"
	notMeasured = "not measured"
	noReference = "nothing to compare with"
)

// judgement is a budget and what came of it.
type judgement struct {
	budget
	unit      string
	measured  float64 // NaN: not measured
	must, aim float64 // limits in the same unit; NaN: nothing to compare with
	verdict   string
	held      int // rounds in which must was held by that round's figures alone
	rounds    int // rounds that can be judged
}

// figure reads a cell: its value over all rounds, or one round's. ok is false if there is none.
type figure func(Cell) (value float64, ok bool)

func overall(c Cell) (float64, bool) { return c.Value, true }

func ofRound(n int) figure {
	return func(c Cell) (float64, bool) {
		if n >= len(c.Rounds) {
			return 0, false
		}
		return c.Rounds[n], true
	}
}

// judge compares the result with all budgets.
func (r *Result) judge() []judgement {
	judged := make([]judgement, len(budgets))
	for i, b := range budgets {
		judged[i] = r.judgeOne(b, overall)
		if len(r.Failures) > 0 {
			continue // a figure that is missing may shift the rounds against each other
		}
		for n := range r.Settings.Rounds {
			switch r.judgeOne(b, ofRound(n)).verdict {
			case kept, atAim:
				judged[i].held++
				judged[i].rounds++
			case missed:
				judged[i].rounds++
			}
		}
	}
	return judged
}

func (r *Result) judgeOne(b budget, read figure) judgement {
	if b.system == "" {
		b.system = Ours
	}
	if b.scale == 0 {
		b.scale = 1
	}
	j := judgement{budget: b, unit: b.unit, measured: math.NaN()}
	if c, ok := r.cell(b.row, b.system, b.metric); ok {
		if v, ok := read(c); ok {
			j.measured = v * b.scale
		}
		if j.unit == "" {
			j.unit = c.Unit
		}
	}
	j.must, j.aim = r.resolve(b, b.must, read), r.resolve(b, b.aim, read)
	within := func(limit float64) bool { return j.measured <= limit }
	if b.atLeast {
		within = func(limit float64) bool { return j.measured >= limit }
	}
	switch {
	case math.IsNaN(j.measured):
		j.verdict = notMeasured
	case math.IsNaN(j.must):
		j.verdict = noReference
	case !within(j.must):
		j.verdict = missed
	case within(j.aim):
		j.verdict = atAim
	default:
		j.verdict = kept
	}
	return j
}

// resolve turns a limit into a number in the budget's unit.
func (r *Result) resolve(b budget, l limit, read figure) float64 {
	var limits []float64
	of := func(system string, factor float64) {
		if c, ok := r.cell(b.row, system, b.metric); ok && factor != 0 {
			if v, ok := read(c); ok {
				limits = append(limits, factor*v*b.scale)
			}
		}
	}
	if l.absolute != 0 {
		limits = append(limits, l.absolute)
	}
	if !b.start || r.has(Predecessor) {
		of(r.reference(), l.ofRef)
	}
	of("nginx", l.ofNginx)
	for _, name := range peerNames {
		of(name, l.ofPeer)
	}
	if len(limits) == 0 {
		return math.NaN()
	}
	if b.atLeast {
		return slices.Max(limits)
	}
	return slices.Min(limits)
}
