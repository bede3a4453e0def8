// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"runtime"
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
	all, last, err := cores()
	if err != nil {
		return nil, err
	}
	others := all
	for cpu := range maxCores {
		if last.IsSet(cpu) {
			others.Clear(cpu)
		}
	}
	if others.Count() == 0 {
		return func() {}, nil
	}
	undo = func() {
		_ = place(os.Getpid(), &all)
		_ = place(proxy, &all)
	}
	if err = place(os.Getpid(), &others); err == nil {
		err = place(proxy, &last)
	}
	if err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// onOneCore gives this process the last core that it may use, until undo is called, and for good to those that it starts meanwhile.
//
// Who reads what another process writes meanwhile finds more or less of it, as fast as the two happen to be: the fewer bytes a
// call finds, the more calls there are. On one core the reader finds what the writer could write in its turn.
func onOneCore() (undo func(), err error) {
	all, last, err := cores()
	if err != nil {
		return nil, err
	}
	undo = func() {
		_ = place(os.Getpid(), &all)
		runtime.SetDefaultGOMAXPROCS() // by itself it follows once a second
	}
	if err := place(os.Getpid(), &last); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// maxCores is how many a unix.CPUSet can name.
const maxCores = 1024

// cores returns those that this process may use, and the last of them.
func cores() (all, last unix.CPUSet, err error) {
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return all, last, fmt.Errorf("reading the cores that may be used: %w", err)
	}
	for cpu := maxCores - 1; cpu >= 0; cpu-- {
		if all.IsSet(cpu) {
			last.Set(cpu)
			return all, last, nil
		}
	}
	return all, last, errors.New("reading the cores that may be used: there is none")
}

// place binds all threads of a process and, but for this one, of its children. Threads to come inherit it.
func place(root int, cores *unix.CPUSet) error {
	pids := []int{root}
	if root != os.Getpid() {
		var err error
		if pids, err = tree(root); err != nil {
			return err
		}
	}
	for _, pid := range pids {
		bound := false
		for range 10 { // again for threads that those not yet bound have made meanwhile
			var err error
			if bound, err = placeThreads(pid, cores); err != nil {
				return err
			}
			if bound {
				break
			}
		}
		if !bound {
			return fmt.Errorf("choosing a core: process %d always has threads elsewhere", pid)
		}
	}
	return nil
}

// placeThreads binds the threads that a process has now, and reports whether all were.
func placeThreads(pid int, cores *unix.CPUSet) (bound bool, err error) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false, fmt.Errorf("listing threads: %w", err)
	}
	bound = true
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			continue
		}
		var now unix.CPUSet
		if err = unix.SchedGetaffinity(tid, &now); err == nil && now != *cores {
			bound = false
			err = unix.SchedSetaffinity(tid, cores)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return false, fmt.Errorf("choosing a core: %w", err)
		}
	}
	return bound, nil
}
