// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"time"
)

// gate is a figure that must not grow relative to the baseline's.
type gate struct {
	name    string // in the file of expected ratios
	what    string
	system  string // of ours
	slack   float64
	measure func(ctx context.Context, h *harness, systems []*system) ([]float64, error) // one round, a figure for each
}

// How far above its expectation a ratio may be: less than the least regression worth a red run, and more than what another
// machine, or another layout of the same code, makes of it.
const (
	slackCPU     = 0.15
	slackLatency = 0.30
)

// How much is measured in one round: enough that a ratio scatters by less than the slack, as little as that allows.
const (
	passes        = 4 // of what follows, but for starts and idle connections
	ciConnections = 40
	ciApart       = 5 * time.Millisecond // between connections that take a spare, as in the budget
	ciBulk        = 40 << 20             // bytes
	ciPings       = 300
	ciStarts      = 3
	ciIdle        = 200 // connections
	ciRest        = 500 * time.Millisecond
)

var gates = []*gate{
	{"connect-cpu", "CPU per new connection, no spare, resumed", OursNoSpare, slackCPU, inTurn(ciConnectCPU)},
	{"down-cpu", "CPU per GB, bulk to the function", Ours, slackCPU, inTurn(ciBulkCPU(opDown))},
	{"up-cpu", "CPU per GB, bulk from the function", Ours, slackCPU, inTurn(ciBulkCPU(opUp))},
	{"pingpong-cpu", "CPU per round trip of 1 KiB", Ours, slackCPU, inTurn(ciPingPongCPU)},
	{"connect-p50", "new connection, spare ready, 0 RTT, p50", Ours, slackLatency, inTurn(ciConnectLatency)},
	{"start-p50", "cold start to register, p50", Ours, slackLatency, ciColdStart},
	{"idle-memory", "memory per idle connection", Ours, slackCPU, ciIdleMemory},
}

// inTurn asks this round's instances, in passes there and back, and returns the means: what slows the machine down for longer
// than a pass slows both.
func inTurn(one func(context.Context, *instance) (float64, error)) func(context.Context, *harness, []*system) ([]float64, error) {
	return func(ctx context.Context, h *harness, systems []*system) ([]float64, error) {
		figures := make([]float64, len(systems))
		for pass := range passes {
			for i := range systems {
				if pass%2 == 1 {
					i = len(systems) - 1 - i
				}
				in, err := h.instance(ctx, systems[i])
				if err != nil {
					return nil, err
				}
				figure, err := one(ctx, in)
				if err != nil {
					return nil, err
				}
				figures[i] += figure / passes
			}
		}
		return figures, nil
	}
}

// charged returns the CPU time that the proxy uses meanwhile, in seconds.
func (in *instance) charged(work func() error) (float64, error) {
	before, err := in.cpu()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := in.cpu()
	return (after - before).Seconds(), err
}

func ciConnectCPU(ctx context.Context, in *instance) (float64, error) {
	if _, err := in.paced(ctx, warmUps, 0); err != nil {
		return 0, err
	}
	return in.charged(func() error {
		_, err := in.paced(ctx, ciConnections, 0)
		return err
	})
}

func ciBulkCPU(op byte) func(context.Context, *instance) (float64, error) {
	return func(ctx context.Context, in *instance) (float64, error) {
		if err := in.bulk(ctx, op, 4<<20, 1); err != nil { // buffers have their size then
			return 0, err
		}
		return in.charged(func() error { return in.bulk(ctx, op, ciBulk, 1) })
	}
}

func ciPingPongCPU(ctx context.Context, in *instance) (float64, error) {
	c, err := in.echoer(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	undo, err := apart(in.process.pid())
	if err != nil {
		return 0, err
	}
	defer undo()
	if _, err := in.pingPong(ctx, c, 100, exchangeLimit); err != nil {
		return 0, err
	}
	return in.charged(func() error {
		_, err := in.pingPong(ctx, c, ciPings, exchangeLimit)
		return err
	})
}

func ciConnectLatency(ctx context.Context, in *instance) (float64, error) {
	if _, err := in.paced(ctx, warmUps, ciApart); err != nil {
		return 0, err
	}
	took, err := in.paced(ctx, ciConnections/2, ciApart)
	return median(inUnits(time.Millisecond, took)), err
}

func ciColdStart(ctx context.Context, h *harness, systems []*system) ([]float64, error) {
	took := make([][3][]float64, len(systems))
	for range ciStarts {
		for i, sys := range systems {
			if err := h.coldStart(ctx, sys, &took[i]); err != nil {
				return nil, err
			}
		}
	}
	figures := make([]float64, len(systems))
	for i := range systems {
		figures[i] = median(took[i][0]) // of the start to register
	}
	return figures, nil
}

// ciIdleMemory is measureIdle in small: fewer connections, that wait for less long.
func ciIdleMemory(ctx context.Context, h *harness, systems []*system) ([]float64, error) {
	h.stopAll() // a page that two processes map counts half
	var idlers []*idler
	defer func() { stopIdlers(idlers) }()
	for _, sys := range systems {
		in, err := h.launch(ctx, sys)
		if err != nil {
			return nil, err
		}
		idlers = append(idlers, &idler{instance: in})
	}
	if err := pause(ctx, ciRest); err != nil {
		return nil, err
	}
	for _, i := range idlers {
		var err error
		if i.rest, err = i.process.memory(); err != nil {
			return nil, err
		}
		if i.conns, err = i.open(ctx, ciIdle); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, 2*ciRest); err != nil {
		return nil, err
	}
	figures := make([]float64, len(systems))
	for at, i := range idlers {
		n, err := i.process.memory()
		if err == nil {
			err = i.stillOpen()
		}
		if err != nil {
			return nil, err
		}
		figures[at] = float64(n-i.rest) / ciIdle
	}
	return figures, nil
}
