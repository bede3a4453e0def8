// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"fmt"
	"net"
	"time"
)

// The processes of these rows are new, and no other one runs of the same program: a page that two map counts half.

// measureAfterBulk asks what a proxy keeps when the bytes have gone. All wait together.
func measureAfterBulk(ctx context.Context, h *harness, j *job) {
	h.stopAll()
	var loaded []*instance
	defer func() {
		for _, in := range loaded {
			in.stop()
		}
	}()
	h.progress.step("round %d/%d  %s", j.round+1, h.amounts.rounds, j.name)
	for _, sys := range j.systems {
		h.progress.still("round %d/%d  %s: %s", j.round+1, h.amounts.rounds, j.name, sys.name)
		in, err := h.launch(ctx, sys)
		if err != nil {
			h.fail(ctx, j, sys, err)
			continue
		}
		loaded = append(loaded, in)
		for _, op := range []byte{opDown, opUp} {
			if err := in.bulk(ctx, op, h.amounts.bulk/2, bulkAtOnce); err != nil {
				h.fail(ctx, j, sys, err)
			}
		}
	}
	if pause(ctx, h.amounts.rest) != nil {
		return
	}
	for _, in := range loaded {
		n, err := in.process.memory()
		if err != nil {
			h.fail(ctx, j, in.system, err)
			continue
		}
		h.collector.add(j.name, in.name, afterBulk, "MB", float64(n)/megabyte)
	}
}

// idler is a system with idle connections.
type idler struct {
	*instance
	rest  int64 // its memory before
	conns []net.Conn
}

// measureIdle asks what a proxy takes when it was just started, and what each connection adds that has carried a message
// and is idle now. They wait together, as many as there are descriptors for.
func measureIdle(ctx context.Context, h *harness, j *job) {
	h.stopAll()
	batch := max(1, int((h.files-min(h.files, 1000))/uint64(filesPerIdle*h.amounts.idle)))
	for from := 0; from < len(j.systems) && ctx.Err() == nil; from += batch {
		h.measureIdleBatch(ctx, j, j.systems[from:min(from+batch, len(j.systems))])
	}
}

func (h *harness) measureIdleBatch(ctx context.Context, j *job, systems []*system) {
	h.progress.step("round %d/%d  %s: starting %d systems", j.round+1, h.amounts.rounds, j.name, len(systems))
	var idlers []*idler
	defer func() { stopIdlers(idlers) }()
	for _, sys := range systems {
		in, err := h.launch(ctx, sys)
		if err != nil {
			h.fail(ctx, j, sys, err)
			continue
		}
		idlers = append(idlers, &idler{instance: in})
	}
	if pause(ctx, h.amounts.rest) != nil {
		return
	}
	for _, i := range idlers {
		var err error
		if i.rest, err = i.process.memory(); err != nil {
			h.fail(ctx, j, i.system, err)
			continue
		}
		h.collector.add(j.name, i.name, atRest, "MB", float64(i.rest)/megabyte)
	}
	for _, i := range idlers {
		h.progress.step("round %d/%d  %s: %d connections through %s", j.round+1, h.amounts.rounds, j.name, h.amounts.idle, i.name)
		var err error
		if i.conns, err = i.open(ctx, h.amounts.idle); err != nil {
			h.fail(ctx, j, i.system, err)
		}
	}
	h.progress.step("round %d/%d  %s: idle for %s", j.round+1, h.amounts.rounds, j.name, h.amounts.settle)
	if pause(ctx, h.amounts.settle) != nil {
		return
	}
	for _, i := range idlers {
		if i.conns == nil {
			continue
		}
		n, err := i.process.memory()
		if err == nil {
			err = i.stillOpen()
		}
		if err != nil {
			h.fail(ctx, j, i.system, err)
			continue
		}
		h.collector.add(j.name, i.name, perIdle, "KiB", float64(n-i.rest)/1024/float64(len(i.conns)))
	}
}

// stopIdlers closes the connections, and then ends what carried them.
func stopIdlers(idlers []*idler) {
	for _, i := range idlers {
		closeAll(i.conns)
		i.stop()
	}
}

// stillOpen checks some of the connections: a proxy that has closed them would need little memory.
func (i *idler) stillOpen() error {
	buf := make([]byte, message)
	for at := 0; at < len(i.conns); at += max(1, len(i.conns)/20) {
		_ = i.conns[at].SetDeadline(time.Now().Add(exchangeLimit))
		if err := roundTrip(i.conns[at], buf); err != nil {
			return fmt.Errorf("idle connection %d: %w", at+1, err)
		}
	}
	return nil
}
