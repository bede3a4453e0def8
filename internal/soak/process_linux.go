// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a process holds.
type usage struct {
	memory      int64 // proportional set size, in bytes
	descriptors int
	threads     int
	cpu         int64 // nanoseconds since it was started
}

// usageOf reads it of a process that is alive.
func usageOf(pid int) (u usage, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	rollup, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		return u, fmt.Errorf("reading memory: %w", err)
	}
	for line := range strings.Lines(string(rollup)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return u, fmt.Errorf("reading memory: %w", err)
			}
			u.memory = kib << 10
		}
	}
	if u.descriptors, err = entries(filepath.Join(dir, "fd")); err != nil {
		return u, fmt.Errorf("counting descriptors: %w", err)
	}
	if u.threads, err = entries(filepath.Join(dir, "task")); err != nil {
		return u, fmt.Errorf("counting threads: %w", err)
	}
	sched, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, fmt.Errorf("reading the time used: %w", err)
	}
	// proc(5): "pid (comm) state …", and comm may hold anything. Fields 14 and 15 are in ticks of 10 ms.
	fields := strings.Fields(string(sched[strings.LastIndexByte(string(sched), ')')+1:]))
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, fmt.Errorf("reading the time used: %w", err)
		}
		u.cpu += ticks * int64(10*time.Millisecond)
	}
	return u, nil
}

func entries(dir string) (int, error) {
	all, err := os.ReadDir(dir)
	return len(all), err
}

// limitDescriptors sets how many descriptors a process may have, and returns how many it might before. Its own limit, not
// the one up to which it may raise it: no privilege is needed, also to take it back.
func limitDescriptors(pid int, n uint64) (before uint64, err error) {
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		return 0, fmt.Errorf("reading the limit of descriptors: %w", err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(n, old.Max), Max: old.Max}, nil); err != nil {
		return 0, fmt.Errorf("limiting descriptors: %w", err)
	}
	return old.Cur, nil
}
