// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ownCPU is what this process has used by getrusage(2), in nanoseconds: another way to ask than the one under test.
func ownCPU() int64 {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		panic(err)
	}
	return unix.TimevalToNsec(ru.Utime) + unix.TimevalToNsec(ru.Stime)
}

// The clock that every figure of CPU time rests on agrees with what the process itself says, and with the ticks of stat as
// far as these go; threads that have ended count.
func TestCPUTimeIsThatOfAKnownBurn(t *testing.T) {
	pid, used := burnt(t, 100*time.Millisecond)
	got, err := cpuTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	if diff := (got - used).Abs(); diff > 10*time.Millisecond {
		t.Errorf("the CPU clock says %v, the process %v", got, used)
	}
	if ticks := statTicks(t, pid); (got - ticks).Abs() > 40*time.Millisecond {
		t.Errorf("the CPU clock says %v, stat %v", got, ticks)
	}
	again, err := cpuTime(pid)
	if err != nil || again < got || again-got > 5*time.Millisecond {
		t.Errorf("an idle process went from %v to %v, %v", got, again, err)
	}
}

// statTicks reads the fields 14 and 15 of /proc/PID/stat, in hundredths of a second.
func statTicks(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	sum := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(string(f))
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

func TestTheCPUTimeOfNoProcessIsAnError(t *testing.T) {
	if d, err := cpuTime(1 << 22); err == nil {
		t.Errorf("a process that cannot be used %v", d)
	}
}

func TestATreeHoldsTheChildren(t *testing.T) {
	child, _ := burnt(t, time.Millisecond)
	pids, err := tree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if pid == child {
			return
		}
	}
	t.Errorf("%v does not hold %d", pids, child)
}

func TestMemoryIsAboutWhatAProcessMaps(t *testing.T) {
	pid, _ := burnt(t, time.Millisecond)
	n, err := pss(pid)
	if err != nil || n < 1<<20 || n > 1<<28 {
		t.Errorf("a small process has %d bytes, %v", n, err)
	}
}

// The timer is what makes a round trip time of 1 ms possible.
func TestATimerDoesNotFireEarly(t *testing.T) {
	timer, err := newTimer()
	if err != nil {
		t.Fatal(err)
	}
	defer timer.close()
	for range 20 {
		due := time.Now().Add(300 * time.Microsecond)
		timer.until(due)
		if early := time.Until(due); early > 0 {
			t.Fatalf("it fired %v early", early)
		}
	}
	timer.until(time.Now().Add(-time.Second)) // gone by: returns
}

// A process that spins gets its quota and no more, where shares can be set at all.
func TestAShareLimitsCPUTime(t *testing.T) {
	g, err := newCgroup("test")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := g.remove(); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), burnVariable+"=1m")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	pid := cmd.Process.Pid
	if err := g.add(pid); err != nil {
		t.Fatal(err)
	}
	if err := g.limit(2*time.Millisecond, 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // what it had before may be used up
	before, err := cpuTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	time.Sleep(300 * time.Millisecond)
	after, err := cpuTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	if share := float64(after-before) / float64(time.Since(began)); share > 0.2 {
		t.Errorf("it used %.0f %% of a core, 10 %% is its share", 100*share)
	}
}

// While a sample is taken apart, the proxy and this process share no core; afterwards they may.
func TestApartSeparatesCoresAndUndoesIt(t *testing.T) {
	pid, _ := burnt(t, time.Millisecond)
	before := coresOf(t, pid)
	undo, err := apart(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer undo() // if the test ends early
	if before.Count() > 1 {
		ours, theirs := coresOf(t, os.Getpid()), coresOf(t, pid)
		for cpu := range maxCores {
			if ours.IsSet(cpu) && theirs.IsSet(cpu) {
				t.Errorf("both may use core %d", cpu)
			}
		}
	}
	undo()
	if coresOf(t, pid) != before {
		t.Error("the proxy's cores are not what they were")
	}
	if coresOf(t, os.Getpid()) != before {
		t.Error("this process's cores are not what they were")
	}
}

// While calls are counted, what is started shares a single core with this process.
func TestOnOneCoreIsInheritedAndUndone(t *testing.T) {
	before := coresOf(t, os.Getpid())
	undo, err := onOneCore()
	if err != nil {
		t.Fatal(err)
	}
	defer undo() // if the test ends early
	pid, _ := burnt(t, time.Millisecond)
	ours, theirs := coresOf(t, os.Getpid()), coresOf(t, pid)
	undo()
	if ours.Count() != 1 || theirs != ours {
		t.Errorf("this process had %d cores and what it started %d, want the same one", ours.Count(), theirs.Count())
	}
	if coresOf(t, os.Getpid()) != before {
		t.Error("this process's cores are not what they were")
	}
}

// coresOf returns where a process's first thread may run.
func coresOf(t testing.TB, pid int) unix.CPUSet {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(pid, &set); err != nil {
		t.Fatal(err)
	}
	return set
}
