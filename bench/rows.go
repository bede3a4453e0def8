// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"errors"
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

// warmUps is how many connections are opened before those that count. More than there are spares: these may be of
// another round trip time.
const warmUps = 4

// connectRow asks how long a new connection takes when they come at a distance, and what it costs. The cost has all in it
// that happens between the connections too, such as opening spares.
func connectRow(name, title string, rtt, every time.Duration) *row {
	return &row{
		name: name, title: title, asks: everybody, metrics: []string{p50, p99, cpuPerUnit},
		cost: each(func(a *amounts) time.Duration { return a.paced + warmUps*every }),
		run: eachInstance(func(ctx context.Context, h *harness, j *job, in *instance) error {
			in.server.setRTT(rtt)
			defer in.server.setRTT(0)
			if _, err := in.paced(ctx, warmUps, every); err != nil {
				return err
			}
			n := int(h.amounts.paced / every)
			before, err := in.cpu()
			if err != nil {
				return err
			}
			took, err := in.paced(ctx, n, every)
			if err != nil {
				return err
			}
			after, err := in.cpu()
			if err != nil {
				return err
			}
			h.collector.latencies(j.name, in.name, time.Millisecond, took)
			h.charge(j, in, after-before, n)
			return nil
		}),
	}
}

// charge records CPU time per unit of work, if there was a process to use it.
func (h *harness) charge(j *job, in *instance, used time.Duration, n int) {
	if in.process != nil && n > 0 {
		h.collector.add(j.name, in.name, cpuPerUnit, "µs", float64(used)/float64(time.Microsecond)/float64(n))
	}
}

// measureLoop asks how many connections one client gets when it does nothing else.
func measureLoop(ctx context.Context, h *harness, j *job, in *instance) error {
	if _, err := in.paced(ctx, warmUps, time.Millisecond); err != nil {
		return err
	}
	before, err := in.cpu()
	if err != nil {
		return err
	}
	handshakes, resumed := in.server.handshakes.Load(), in.server.resumed.Load()
	var took []time.Duration
	began := time.Now()
	for time.Since(began) < h.amounts.loop && ctx.Err() == nil {
		d, err := in.newConnection(ctx)
		if err != nil {
			return fmt.Errorf("connection %d: %w", len(took)+1, err)
		}
		took = append(took, d)
	}
	elapsed := time.Since(began)
	after, err := in.cpu()
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	h.collector.add(j.name, in.name, rate, "1/s", float64(len(took))/elapsed.Seconds())
	h.collector.latencies(j.name, in.name, time.Millisecond, took)
	h.charge(j, in, after-before, len(took))
	if n := in.server.handshakes.Load() - handshakes; n > 0 {
		h.collector.add(j.name, in.name, sessions, "%", 100*float64(in.server.resumed.Load()-resumed)/float64(n))
	}
	return nil
}

func measurePingPong(ctx context.Context, h *harness, j *job, in *instance) error {
	c, err := in.echoer(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if in.process != nil {
		undo, err := apart(in.process.pid())
		if err != nil {
			return err
		}
		defer undo()
	}
	if _, err := in.pingPong(ctx, c, 100, h.amounts.loop); err != nil {
		return err
	}
	before, err := in.cpu()
	if err != nil {
		return err
	}
	took, err := in.pingPong(ctx, c, h.amounts.rounds1k, h.amounts.loop)
	if err != nil {
		return err
	}
	after, err := in.cpu()
	if err != nil {
		return err
	}
	h.collector.latencies(j.name, in.name, time.Microsecond, took)
	h.charge(j, in, after-before, len(took))
	return nil
}

// bulkRow asks what it costs to carry many bytes one way. Throughput is what two cores give to the client, the proxy and
// the server together.
func bulkRow(name, title string, op byte, connections int) *row {
	return &row{
		name: name, title: title, asks: noVariant, metrics: []string{cpuPerGB, throughput},
		cost: each(func(a *amounts) time.Duration {
			return time.Duration(float64(a.bulk) / gigabyte * 1.6 * float64(time.Second))
		}),
		run: eachInstance(func(ctx context.Context, h *harness, j *job, in *instance) error {
			if err := in.bulk(ctx, op, 4<<20, connections); err != nil { // buffers have their size then
				return err
			}
			before, err := in.cpu()
			if err != nil {
				return err
			}
			began := time.Now()
			if err := in.bulk(ctx, op, h.amounts.bulk, connections); err != nil {
				return err
			}
			elapsed := time.Since(began)
			after, err := in.cpu()
			if err != nil {
				return err
			}
			if in.process != nil {
				h.collector.add(j.name, in.name, cpuPerGB, "s/GB", (after-before).Seconds()/(float64(h.amounts.bulk)/gigabyte))
			}
			h.collector.add(j.name, in.name, throughput, "MB/s", float64(h.amounts.bulk)/megabyte/elapsed.Seconds())
			return nil
		}),
	}
}

// bulkTime is about how long the bytes of one figure take on two cores.
func bulkTime(a *amounts) time.Duration {
	return time.Duration(float64(a.bulk) / gigabyte * 1.3 * float64(time.Second))
}

// parallelRow asks how many short requests get through when many connections have one each under way.
func parallelRow(name, title string, connections int) *row {
	return &row{
		name: name, title: title, asks: noVariant, metrics: []string{rate, cpuPerUnit},
		cost: each(func(a *amounts) time.Duration { return a.loop + time.Duration(connections)*1200*time.Microsecond }),
		run: eachInstance(func(ctx context.Context, h *harness, j *job, in *instance) error {
			conns, err := in.open(ctx, connections)
			if err != nil {
				return err
			}
			defer closeAll(conns)
			before, err := in.cpu()
			if err != nil {
				return err
			}
			began := time.Now()
			n, err := together(ctx, conns, h.amounts.loop)
			if err != nil {
				return err
			}
			elapsed := time.Since(began)
			after, err := in.cpu()
			if err != nil {
				return err
			}
			h.collector.add(j.name, in.name, rate, "1/s", float64(n)/elapsed.Seconds())
			h.charge(j, in, after-before, n)
			return nil
		}),
	}
}
