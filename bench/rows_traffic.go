// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

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

// parallelRow asks how many short requests get through when many connections have one each under way. What limits that is the
// number of cores, so the function is one that has as many vCPUs.
func parallelRow(name, title string, connections int) *row {
	return &row{
		name: name, title: title, asks: noVariant, metrics: []string{rate, cpuPerUnit},
		cost: each(func(a *amounts) time.Duration { return a.loop + time.Duration(connections)*1200*time.Microsecond }),
		run: eachInstance(func(ctx context.Context, h *harness, j *job, in *instance) error {
			if in.kind == extension {
				large, err := h.launch(ctx, in.system, memorySize(runtime.NumCPU()*memoryMB))
				if err != nil {
					return err
				}
				defer large.stop()
				in = large
			}
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
