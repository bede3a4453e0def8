// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The metrics of the rows.
const (
	p50          = "p50"
	p99          = "p99"
	cpuPerUnit   = "CPU"        // µs for each connection or round trip
	cpuPerGB     = "CPU per GB" // seconds for each 10^9 bytes
	rate         = "rate"       // per second
	sessions     = "resumed"    // share of the handshakes
	throughput   = "MB/s"
	atRest       = "at rest"
	perIdle      = "per idle connection"
	afterBulk    = "after bulk"
	toRegister   = "register"
	toNext       = "next"
	toFirstByte  = "first byte"
	firstCall    = "first call"
	megabyte     = 1e6
	gigabyte     = 1e9
	manyAtOnce   = 400 // as many as the extension allows by default
	bulkAtOnce   = 8
	filesPerIdle = 2 // descriptors of this process for each idle connection: the client's and the server's
)

// amounts are how much is measured in one round.
type amounts struct {
	rounds   int
	bulk     int64         // bytes of one figure
	paced    time.Duration // of connections one after the other with pauses
	loop     time.Duration // of anything without pauses
	rounds1k int           // of ping-pong, at most, within loop
	starts   int           // cold starts
	idle     int           // connections
	settle   time.Duration // before memory is looked at with idle connections
	rest     time.Duration // before memory is looked at otherwise
	firsts   int           // cold starts at a small CPU share
	later    int           // connections after the first one of the last of these
}

var (
	full = amounts{rounds: 5, bulk: 512 << 20, paced: 1500 * time.Millisecond, loop: time.Second, rounds1k: 10_000,
		starts: 8, idle: 2000, settle: 10 * time.Second, rest: 2 * time.Second, firsts: 3, later: 20}
	quick = amounts{rounds: 1, bulk: 32 << 20, paced: 240 * time.Millisecond, loop: 150 * time.Millisecond, rounds1k: 500,
		starts: 2, idle: 100, settle: time.Second, rest: 200 * time.Millisecond, firsts: 1, later: 2}
)

// row is one question, asked of all systems that it concerns.
type row struct {
	name    string // for --only
	title   string
	asks    func(*system) bool
	rounds  int                                         // at most; 0: no bound
	cost    func(a *amounts, systems int) time.Duration // of one round, roughly
	unable  func() error                                // why this machine cannot answer; nil: it can
	run     func(context.Context, *harness, *job)
	metrics []string // in the order of its table
}

// job is a row in one round.
type job struct {
	*row
	round   int
	systems []*system
}

func (r *row) maxRounds() int {
	if r.rounds == 0 {
		return 1 << 30
	}
	return r.rounds
}

// of returns the systems that the row asks.
func (r *row) of(all []*system) []*system {
	return slices.DeleteFunc(slices.Clone(all), func(s *system) bool { return !r.asks(s) })
}

// Who is asked.
func everybody(*system) bool     { return true }
func noVariant(s *system) bool   { return !s.variant }
func anExtension(s *system) bool { return s.kind == extension && !s.variant }
func aProxy(s *system) bool      { return s.kind != floor && !s.variant }

// rows are all questions, in the order in which they are asked.
var rows = []*row{
	connectRow("connect-0ms", "New connection, 0 RTT, one every 5 ms", 0, 5*time.Millisecond),
	connectRow("connect-1ms", "New connection, 1 ms RTT, one every 15 ms", time.Millisecond, 15*time.Millisecond),
	connectRow("connect-20ms", "New connection, 20 ms RTT, one every 60 ms", 20*time.Millisecond, 60*time.Millisecond),
	{
		name: "connect-loop", title: "New connections in a closed loop, 0 RTT", asks: everybody, metrics: []string{rate, cpuPerUnit, p50, p99, sessions},
		cost: each(func(a *amounts) time.Duration { return a.loop }), run: eachInstance(measureLoop),
	},
	{
		name: "pingpong", title: "1 KiB there and back on one connection", asks: noVariant, metrics: []string{p50, p99, cpuPerUnit},
		cost: each(func(a *amounts) time.Duration { return a.loop }), run: eachInstance(measurePingPong),
	},
	bulkRow("down-1", "Bulk to the function, 1 connection", opDown, 1),
	bulkRow("up-1", "Bulk from the function, 1 connection", opUp, 1),
	bulkRow("down-8", "Bulk to the function, 8 connections", opDown, bulkAtOnce),
	bulkRow("up-8", "Bulk from the function, 8 connections", opUp, bulkAtOnce),
	parallelRow("parallel-64", "1 KiB there and back on 64 connections at once", 64),
	parallelRow("parallel-400", "1 KiB there and back on 400 connections at once", manyAtOnce),
	{
		name: "memory-load", title: "Memory after bulk on 8 connections", asks: aProxy, rounds: 3, metrics: []string{afterBulk},
		cost: func(a *amounts, n int) time.Duration { return a.rest + each(bulkTime)(a, n) }, run: measureAfterBulk,
	},
	{
		name: "memory", title: "Memory at rest and with idle connections", asks: aProxy, rounds: 2, metrics: []string{atRest, perIdle},
		cost: func(a *amounts, n int) time.Duration {
			return a.settle + a.rest + time.Duration(n*a.idle)*1200*time.Microsecond
		},
		run: measureIdle,
	},
	{
		name: "coldstart", title: "Cold start, Parameter Store answers after 15 ms", asks: anExtension,
		metrics: []string{toRegister, toNext, toFirstByte},
		cost:    each(func(a *amounts) time.Duration { return time.Duration(a.starts) * 80 * time.Millisecond }),
		run:     measureColdStart,
	},
	shareRow(128),
	shareRow(512),
	shareRow(1769),
}

func rowIndex(name string) int {
	return slices.IndexFunc(rows, func(r *row) bool { return r.name == name })
}

// rows returns what was asked for.
func (c *Config) rows() ([]*row, error) {
	if len(c.Only) == 0 {
		return rows, nil
	}
	var chosen []*row
	used := make(map[string]bool)
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
		take := false
		for _, want := range c.Only {
			if strings.HasPrefix(r.name, want) {
				take, used[want] = true, true
			}
		}
		if take {
			chosen = append(chosen, r)
		}
	}
	for _, want := range c.Only {
		if !used[want] {
			return nil, fmt.Errorf("bench: no row begins with %q; there are: %s", want, strings.Join(names, ", "))
		}
	}
	return chosen, nil
}

// each is the cost of a row that asks one system after the other.
func each(one func(*amounts) time.Duration) func(*amounts, int) time.Duration {
	return func(a *amounts, systems int) time.Duration {
		return time.Duration(systems) * (one(a) + 50*time.Millisecond)
	}
}

// eachInstance asks one system after the other.
func eachInstance(measure func(context.Context, *harness, *job, *instance) error) func(context.Context, *harness, *job) {
	return func(ctx context.Context, h *harness, j *job) {
		h.progress.step("round %d/%d  %s", j.round+1, h.amounts.rounds, j.name)
		for _, sys := range j.systems {
			if ctx.Err() != nil {
				return
			}
			h.progress.still("round %d/%d  %s: %s", j.round+1, h.amounts.rounds, j.name, sys.name)
			in, err := h.instance(ctx, sys)
			if err == nil {
				in.server.setRTT(0)
				err = measure(ctx, h, j, in)
			}
			h.fail(ctx, j, sys, err)
			h.progress.done += j.cost(&h.amounts, len(j.systems)) / time.Duration(len(j.systems))
		}
	}
}
