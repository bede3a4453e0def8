// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// measureColdStart asks how long after its start an extension registers, is ready, and carries the first byte. The
// function calls as soon as Lambda would let it: when the extension has asked for its first event.
func measureColdStart(ctx context.Context, h *harness, j *job) {
	h.progress.step("round %d/%d  %s", j.round+1, h.amounts.rounds, j.name)
	took := make(map[*system]*[3][]float64)
	for range h.amounts.starts {
		h.progress.still("round %d/%d  %s", j.round+1, h.amounts.rounds, j.name)
		for _, sys := range j.systems {
			if took[sys] == nil {
				took[sys] = new([3][]float64)
			}
			if err := h.coldStart(ctx, sys, took[sys]); err != nil {
				h.fail(ctx, j, sys, err)
			}
		}
	}
	for _, sys := range j.systems {
		for i, metric := range []string{toRegister, toNext, toFirstByte} {
			if len(took[sys][i]) > 0 {
				h.collector.add(j.name, sys.name, metric, "ms", median(took[sys][i]))
			}
		}
	}
}

// coldStart starts a system once, and appends what it took to register, Next and the first byte, in milliseconds.
func (h *harness) coldStart(ctx context.Context, sys *system, took *[3][]float64) error {
	in, err := h.startExtension(ctx, sys, nil)
	if err != nil {
		return err
	}
	defer in.stop()
	registered, err := in.await(ctx, in.api.registered, "it did not register")
	if err != nil {
		return err
	}
	ready, err := in.await(ctx, in.api.next, "it did not ask for its first event")
	if err != nil {
		return err
	}
	if err := in.awaitAnswer(ctx); err != nil {
		return err
	}
	for i, at := range []time.Time{registered, ready, time.Now()} {
		took[i] = append(took[i], float64(at.Sub(in.process.started))/float64(time.Millisecond))
	}
	return nil
}

const (
	// sharePeriod is the period in which a small function gets its share of a core.
	sharePeriod = 20 * time.Millisecond

	// coreMB is the memory with which Lambda gives a function one core.
	coreMB = 1769

	// shareEvery is how far apart the new connections are.
	shareEvery = 300 * time.Millisecond
)

// shareRow asks for the latency that the users of a small function see: its first call after a cold start, and later new
// connections. All systems are asked at the same time, each at its own moment of every 300 ms, so that none disturbs
// another: what they use of the CPU is little, that is the point.
func shareRow(mb int) *row {
	return &row{
		name: fmt.Sprintf("share-%d", mb), asks: anExtension, unable: noCgroups, metrics: []string{firstCall, p50, p99},
		title: fmt.Sprintf("At the CPU share of a function with %d MB", mb),
		cost: func(a *amounts, systems int) time.Duration {
			return time.Duration(systems*a.firsts)*120*time.Millisecond + time.Duration(a.later+1)*shareEvery
		},
		run: func(ctx context.Context, h *harness, j *job) { measureShare(ctx, h, j, mb) },
	}
}

func noCgroups() error {
	g, err := newCgroup("probe")
	if err != nil {
		return err
	}
	return g.remove()
}

// limited is a system at a CPU share.
type limited struct {
	*instance
	group *cgroup
	first time.Duration
}

// stop ends the system and its group.
func (l *limited) stop() error {
	l.instance.stop()
	return l.group.remove()
}

func measureShare(ctx context.Context, h *harness, j *job, mb int) {
	h.progress.step("round %d/%d  %s", j.round+1, h.amounts.rounds, j.name)
	var started []*limited
	defer func() {
		for _, l := range started {
			h.fail(ctx, j, l.system, l.stop())
		}
	}()
	for i, sys := range j.systems {
		var first []float64
		for n := range h.amounts.firsts {
			l, err := h.startLimited(ctx, sys, fmt.Sprintf("%d-%d", i, n), mb)
			if err != nil {
				h.fail(ctx, j, sys, err)
				continue
			}
			first = append(first, float64(l.first)/float64(time.Millisecond))
			if n < h.amounts.firsts-1 {
				h.fail(ctx, j, sys, l.stop())
				continue
			}
			started = append(started, l)
		}
		if len(first) > 0 {
			h.collector.add(j.name, sys.name, firstCall, "ms", median(first))
		}
	}
	// Each has its own time of the interval; results are told when all are done.
	took := make([][]time.Duration, len(started))
	errs := make([]error, len(started))
	var g errgroup.Group
	for i, l := range started {
		g.Go(func() error {
			if err := pause(ctx, shareEvery+shareEvery*time.Duration(i)/time.Duration(len(started))); err != nil {
				return err
			}
			took[i], errs[i] = l.paced(ctx, h.amounts.later, shareEvery)
			return nil
		})
	}
	if g.Wait() != nil {
		return
	}
	for i, l := range started {
		if errs[i] != nil {
			h.fail(ctx, j, l.system, errs[i])
			continue
		}
		h.collector.latencies(j.name, l.name, time.Millisecond, took[i])
	}
}

// startLimited starts a system in a group of its own, limits that when the extension is ready, and makes the first call.
func (h *harness) startLimited(ctx context.Context, sys *system, group string, mb int) (l *limited, err error) {
	g, err := newCgroup(group)
	if err != nil {
		return nil, err
	}
	in, err := h.startExtension(ctx, sys, []string{memorySize(mb)})
	if err != nil {
		_ = g.remove()
		return nil, err
	}
	l = &limited{instance: in, group: g}
	defer func() {
		if err != nil {
			in.stop()
			_ = g.remove()
		}
	}()
	if err = g.add(in.process.pid()); err != nil {
		return nil, err
	}
	if err = in.awaitNext(ctx); err != nil {
		return nil, err
	}
	if err = g.limit(sharePeriod*time.Duration(mb)/coreMB, sharePeriod); err != nil {
		return nil, err
	}
	// An extension that is not ready, though it said so, is tried until it is: its users would see the failures too.
	began := time.Now()
	if err = in.awaitAnswer(ctx); err != nil {
		return nil, err
	}
	l.first = time.Since(began)
	return l, nil
}
