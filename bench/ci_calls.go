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
// They are counted by the kernel, /proc/PID/io, which needs no privilege and disturbs nobody. It counts read(2), write(2) and
// their like on any descriptor, successful or not, which is how Go moves bytes through sockets. It does not count what
// opens, waits for and closes them: accept, connect, epoll, futex, setsockopt, recv with a flag.
type callLimit struct {
	what   string
	system string
	limit  float64
	unit   float64 // how many units one measurement is
	work   func(context.Context, *instance) error
}

var callLimits = []callLimit{
	{"reads and writes per MB, bulk to the function", Ours, 16, ciBulk / megabyte, ciBulkCalls(opDown)},
	{"reads and writes per MB, bulk from the function", Ours, 16, ciBulk / megabyte, ciBulkCalls(opUp)},
	{"reads and writes per new connection and next spare", Ours, 16, ciConnections, ciConnectCalls(ciApart)},
	{"reads and writes per new connection, no spare", OursNoSpare, 16, ciConnections, ciConnectCalls(0)},
}

// countings is how often each is counted; the median is compared with the limit.
const countings = 5

func ciBulkCalls(op byte) func(context.Context, *instance) error {
	return func(ctx context.Context, in *instance) error { return in.bulk(ctx, op, ciBulk, 1) }
}

func ciConnectCalls(every time.Duration) func(context.Context, *instance) error {
	return func(ctx context.Context, in *instance) error {
		_, err := in.paced(ctx, ciConnections, every)
		return err
	}
}

// countCalls checks all of callLimits.
func (ci *ciRun) countCalls(ctx context.Context) {
	for _, c := range callLimits {
		counts, err := ci.counts(ctx, c)
		if err != nil {
			ci.broken(ctx, c.what, err)
			continue
		}
		n := median(counts)
		ci.line(n <= c.limit, c.what, fmt.Sprintf("%.2f", n), fmt.Sprintf("limit %.2f", c.limit),
			fmt.Sprintf("%d countings, %.2f to %.2f", countings, slices.Min(counts), slices.Max(counts)))
	}
	ci.stopAll()
}

// counts measures calls per unit, each time with a new process.
func (ci *ciRun) counts(ctx context.Context, c callLimit) ([]float64, error) {
	counts := make([]float64, countings)
	for i := range counts {
		ci.stopAll()
		in, err := ci.instance(ctx, ci.of(c.system)[0])
		if err == nil {
			err = c.work(ctx, in) // buffers have their size then, and there is a session to resume
		}
		var before, after int64
		if err == nil {
			before, err = settledCalls(ctx, in.process.pid())
		}
		if err == nil {
			err = c.work(ctx, in)
		}
		if err == nil {
			after, err = settledCalls(ctx, in.process.pid())
		}
		if err != nil {
			return nil, err
		}
		counts[i] = float64(after-before) / c.unit
	}
	return counts, nil
}

// settledCalls returns how many calls a process has made, when it has made none for a while.
func settledCalls(ctx context.Context, pid int) (int64, error) {
	last := int64(-1)
	for {
		n, err := calls(pid)
		if err != nil || n == last {
			return n, err
		}
		last = n
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// calls returns how many system calls a process has made to read and to write.
func calls(pid int) (sum int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, fmt.Errorf("counting system calls: %w", err)
	}
	found := 0
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name != "syscr" && name != "syscw" {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("counting system calls: %w", err)
		}
		sum += n
		found++
	}
	if found != 2 {
		return 0, fmt.Errorf("counting system calls: /proc/%d/io has %d of two lines", pid, found)
	}
	return sum, nil
}
