// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// callLimit bounds how many system calls the extension makes to read and to write, for each unit of some work.
//
// The kernel counts them, /proc/PID/io, which needs no privilege and disturbs nobody: read(2), write(2) and their like on any
// descriptor, with or without success. That is how Go moves bytes through sockets, and a little more: a thread that wakes the
// poller writes to an eventfd. What opens, waits for and closes sockets is not counted: accept, connect, epoll, futex,
// setsockopt, recv with a flag.
type callLimit struct {
	what          string
	system        string
	reads, writes float64
	units         float64 // of one piece of work
	work          func(context.Context, *instance) error
}

// A stream takes 1 MB / 256 KiB = 3.8 calls of each kind at the least, and a little more when the proxy finds less than a full
// buffer: 3.9 reads, 4.0 to 4.2 writes. A connection takes the same number each time but for what arrives in pieces: 9.3 reads and
// 5.0 writes with the next spare, 8.9 to 9.1 and 5.0 without. One read more for each connection, or one write, is above the limit.
var callLimits = []callLimit{
	{"calls per MB, bulk to the function", Ours, 4.3, 4.5, countedBulk / megabyte, ciBulkCalls(opDown)},
	{"calls per MB, bulk from the function", Ours, 4.3, 4.5, countedBulk / megabyte, ciBulkCalls(opUp)},
	{"calls per new connection and the next spare", Ours, 10.0, 5.5, countedConnections, ciConnectCalls(ciApart)},
	{"calls per new connection, no spare, resumed", OursNoSpare, 9.6, 5.5, countedConnections, ciConnectCalls(0)},
}

// countings is how often each is counted. The least is compared with the limit: who is interrupted while writing leaves less to
// find, so other work on the machine adds calls to a stream. From a connection with a spare it takes 0.3 away: there, one read
// more for each may pass unnoticed.
const (
	countings          = 5
	countedBulk        = 128 << 20 // bytes
	countedConnections = 120
)

func ciBulkCalls(op byte) func(context.Context, *instance) error {
	return func(ctx context.Context, in *instance) error { return in.bulk(ctx, op, countedBulk, 1) }
}

func ciConnectCalls(every time.Duration) func(context.Context, *instance) error {
	return func(ctx context.Context, in *instance) error {
		_, err := in.paced(ctx, countedConnections, every)
		return err
	}
}

// countCalls checks all of callLimits.
func (ci *ciRun) countCalls(ctx context.Context) {
	for _, c := range callLimits {
		var reads, writes []float64
		for range countings {
			n, err := ci.count(ctx, c)
			if err != nil {
				ci.broken(ctx, c.what, err)
				break
			}
			reads, writes = append(reads, float64(n.reads)/c.units), append(writes, float64(n.writes)/c.units)
		}
		if len(reads) < countings {
			continue
		}
		r, w := slices.Min(reads), slices.Min(writes)
		ci.line(r <= c.reads && w <= c.writes, c.what, fmt.Sprintf("%.2f + %.2f", r, w),
			fmt.Sprintf("limits %.1f reads + %.1f writes", c.reads, c.writes),
			fmt.Sprintf("%d countings, up to %.2f + %.2f", countings, slices.Max(reads), slices.Max(writes)))
	}
	ci.stopAll()
}

// count returns the calls of one piece of work, by a new process that has done it once before: buffers have their size then,
// and there is a session to resume. All run on one core: see onOneCore.
func (ci *ciRun) count(ctx context.Context, c callLimit) (n ioCalls, err error) {
	ci.stopAll()
	undo, err := onOneCore()
	if err != nil {
		return n, err
	}
	defer undo()
	in, err := ci.instance(ctx, ci.of(c.system)[0])
	if err != nil {
		return n, err
	}
	if err := c.work(ctx, in); err != nil {
		return n, err
	}
	before, err := settledCalls(ctx, in.process.pid())
	if err != nil {
		return n, err
	}
	if err := c.work(ctx, in); err != nil {
		return n, err
	}
	after, err := settledCalls(ctx, in.process.pid())
	return ioCalls{after.reads - before.reads, after.writes - before.writes}, err
}

// settledCalls returns how many calls a process has made, when it has made none for a while.
func settledCalls(ctx context.Context, pid int) (ioCalls, error) {
	last := ioCalls{-1, -1}
	for {
		n, err := callsOf(pid)
		if err != nil || n == last {
			return n, err
		}
		last = n
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return n, err
		}
	}
}

// ioCalls is how many system calls a process has made, all threads.
type ioCalls struct{ reads, writes int64 }

func callsOf(pid int) (n ioCalls, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return n, fmt.Errorf("counting system calls: %w", err)
	}
	for name, count := range map[string]*int64{"syscr": &n.reads, "syscw": &n.writes} {
		_, rest, _ := strings.Cut(string(b), name+": ")
		digits, _, _ := strings.Cut(rest, "\n")
		if *count, err = strconv.ParseInt(digits, 10, 64); err != nil {
			return n, fmt.Errorf("counting system calls of process %d: %s: %w", pid, name, err)
		}
	}
	return n, nil
}
