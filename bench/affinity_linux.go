// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// apart gives the last core that this process may use to a proxy, and the others to this process, until undo is called.
// With a single core it does nothing.
//
// Two processes that take turns are put on one core or on two by the scheduler, as the moment has it. Waking a core that
// sleeps takes longer than the whole work of a small message (in a virtual machine three times as long): without a fixed
// place a sample shows where the scheduler put it, not what it measures.
func apart(proxy int) (undo func(), err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("reading the cores that may be used: %w", err)
	}
	if all.Count() < 2 {
		return func() {}, nil
	}
	ours, theirs := all, unix.CPUSet{}
	for cpu := range 1024 {
		if ours.IsSet(cpu) {
			theirs.Zero()
			theirs.Set(cpu)
		}
	}
	for cpu := range 1024 {
		if theirs.IsSet(cpu) {
			ours.Clear(cpu)
		}
	}
	self := os.Getpid()
	undo = func() {
		_ = place(self, &all)
		_ = place(proxy, &all)
	}
	if err := place(self, &ours); err != nil {
		undo()
		return nil, err
	}
	if err := place(proxy, &theirs); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// place binds all threads of a process and of its children. Threads to come inherit it.
func place(root int, cores *unix.CPUSet) error {
	pids := []int{root}
	if root != os.Getpid() {
		var err error
		if pids, err = tree(root); err != nil {
			return err
		}
	}
	for _, pid := range pids {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return fmt.Errorf("listing threads: %w", err)
		}
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				continue
			}
			if err := unix.SchedSetaffinity(tid, cores); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("choosing a core: %w", err)
			}
		}
	}
	return nil
}
