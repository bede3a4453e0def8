// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
)

// figures makes TestFigures measure, at full size and alone:
//
//	go test -count 1 -v -run TestFigures ./cmd/consul-lambda-registrator -figures
//
// Without it, the same is run smaller where time is concerned, beside other tests.
var figures = flag.Bool("figures", false, "measure the registrator at full size")

// beside lets a test run beside others, unless it measures.
func beside(t *testing.T) {
	t.Helper()
	if !*figures {
		t.Parallel()
	}
}

// latency is that of each AWS call, as in the predecessor's measurement.
const latency = 20 * time.Millisecond

// consulWrites and storeWrites are the operations that change something.
var (
	consulWrites = []string{consulsim.OpRegister, consulsim.OpDeregister, consulsim.OpTxn, consulsim.OpConfigSet, consulsim.OpConfigDelete}
	storeWrites  = []string{"PutParameter", "DeleteParameter", "DeleteParameters"}
)

// calls counts what the registrator did since the last reset.
func (a *account) calls() (aws, consul, writes int) {
	for _, op := range consulWrites {
		writes += a.Consul.Count(op)
	}
	for _, op := range storeWrites {
		writes += a.world.Store.Count(op)
	}
	return a.AWS.Count("") + a.world.Store.Count(""), a.Consul.Count(""), writes
}

func (a *account) resetCalls() {
	a.AWS.ResetCalls()
	a.Consul.ResetCalls()
	a.world.Store.ResetCalls()
}

// setLatency delays every AWS call.
func (a *account) setLatency(d time.Duration) {
	a.AWS.SetLatency("", d)
	a.world.Store.SetLatency("", d)
}

// Budget of section 5, exactly, in every test run: a quiet run over 10,000 functions of which 500 are enabled makes at most 10 AWS
// calls and 5 of Consul, and writes nothing but the heartbeat.
func TestFiguresOfAQuietRun(t *testing.T) {
	beside(t)
	const functions, taking = 10_000, 500
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.addFunctions(functions, taking)
	if got := a.run(); got.Created != taking || got.Failed != 0 {
		t.Fatalf("the first run: %+v", got)
	}
	before := a.state()
	a.setLatency(latency)
	for _, what := range []string{"the same process", "another process"} {
		if what == "another process" {
			a.Recycle()
			a.resetCalls()
			a.run() // reads the list of datacenters, which a process does once in hours
			aws, consul, writes := a.calls()
			t.Logf("its first run: %d AWS calls, %d Consul calls, %d writes", aws, consul, writes)
			if aws > 10 || writes != 1 {
				t.Errorf("its first run: %d AWS calls, %d writes", aws, writes)
			}
		}
		a.resetCalls()
		begin := time.Now()
		got := a.run()
		took := time.Since(begin)
		aws, consul, writes := a.calls()
		t.Logf("%s: %d functions, %d enabled: %d AWS calls, %d Consul calls, %d writes, %v; %d KiB (PSS)",
			what, functions, taking, aws, consul, writes, took.Round(time.Millisecond), pss(t, a.Sandbox().RuntimePID()))
		if aws > 10 || consul > 5 || writes != 1 {
			t.Errorf("%s: %d AWS calls, %d Consul calls, %d writes: %v", what, aws, consul, writes, a.Consul.Calls())
		}
		if len(got.Changed) != 0 || got.Enabled != taking {
			t.Errorf("%s: %+v", what, got)
		}
		a.sameState(before)
	}
}

// Budget of section 5: 1,000 new functions at 20 ms per AWS call, rate limits off, take at most a tenth of what the predecessor took
// (48.6 s), which is also less than a tenth of four calls for each, one after the other.
func TestFiguresOfNewFunctions(t *testing.T) {
	beside(t)
	functions := 100
	if *figures {
		functions = 1000
	}
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.addFunctions(functions, functions)
	a.setLatency(latency)
	begin := time.Now()
	got := a.run()
	took := time.Since(begin)
	aws, consul, _ := a.calls()
	t.Logf("%d new functions: %v, %d AWS calls, %d Consul calls", functions, took.Round(time.Millisecond), aws, consul)
	if got.Created != functions || len(a.registered()) != functions || len(a.world.Store.Names()) != functions {
		t.Errorf("the result: %+v", got)
	}
	if limit := 4800 * time.Millisecond; took > limit {
		t.Errorf("it took %v, and %v are allowed", took, limit)
	}
}

// What a cold start costs, from the process's start to the answer of its first invocation, and what the process then holds. A figure
// to know, without a budget.
func TestFiguresOfAColdStart(t *testing.T) {
	beside(t)
	starts := 2
	if *figures {
		starts = 15
	}
	a := newAccount(t, lab.ControlConfig{Quiet: true})
	a.addFunctions(1000, 100)
	a.run()
	var inits, all []time.Duration
	var memory []int
	for range starts {
		a.Recycle()
		begin := time.Now()
		a.run()
		all = append(all, time.Since(begin))
		inits = append(inits, a.Sandbox().Init().Total)
		memory = append(memory, pss(t, a.Sandbox().RuntimePID()))
	}
	for _, d := range [][]time.Duration{inits, all} {
		slices.Sort(d)
	}
	slices.Sort(memory)
	t.Logf("p50 of %d cold starts: Init %v, to the answer of a quiet run over 1,000 functions %v; memory after it %d KiB (PSS)",
		starts, inits[starts/2].Round(100*time.Microsecond), all[starts/2].Round(100*time.Microsecond), memory[starts/2])
}

// pss returns a process's proportional share of memory, in KiB.
func pss(t testing.TB, pid int) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	ok(t, err)
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if value, found := strings.CutPrefix(s.Text(), "Pss:"); found {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(value, "kB")))
			ok(t, err)
			return n
		}
	}
	t.Fatalf("process %d says nothing of its memory", pid)
	return 0
}
