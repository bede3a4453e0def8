// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// cell is a row's world, in which its phases follow each other in one sandbox: what one leaves behind is the next one's
// burden.
type cell struct {
	*rig
	t   *testing.T
	row *row
	ctx context.Context

	base usage // before the first phase

	receding chan struct{} // closed when the crowd shall go; nil if there is none
	members  sync.WaitGroup
}

// runRow runs the phases of a row in which anything is expected of it.
func runRow(t *testing.T, r *row, note func(phase, string)) {
	t.Helper()
	row := *r
	if row.hold == 0 {
		row.hold = 1200 * time.Millisecond
	}
	if row.within == 0 {
		row.within = dialTimeout + time.Second
	}
	if row.stream == "" {
		row.stream = source
	}
	for _, f := range []*func(*cell) error{&row.strike, &row.heal} {
		if *f == nil {
			*f = func(*cell) error { return nil }
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 90*time.Second)
	defer cancel()
	rig, err := newRig(ctx, programs(t))
	ok(t, err)
	c := &cell{rig: rig, t: t, row: &row, ctx: ctx}
	defer func() {
		if c.box != nil && t.Failed() {
			for _, l := range c.box.Logs() {
				t.Logf("%s: %s", l.Source, l.Text)
			}
		}
		ok(t, c.close())
		for _, b := range c.site.blamed() {
			t.Error(b)
		}
		for _, i := range c.site.incidents() {
			if !row.cuts {
				t.Errorf("call %s: the service saw a clean end after %d bytes", i.call, i.n)
			}
		}
	}()
	for p, do := range [phases]func(*cell) (string, error){
		(*cell).init, (*cell).idle, (*cell).dial, (*cell).handshake, (*cell).stream, (*cell).halfClosed, (*cell).refresh, (*cell).freeze, (*cell).shutdown,
	} {
		if phase(p) != inInit && row.want[p] == none {
			note(phase(p), "–")
			continue
		}
		begin := time.Now()
		took, err := do(c)
		if err != nil {
			_ = c.row.heal(c)
			note(phase(p), "FAILED")
			t.Errorf("%s: %v", phaseNames[p], err)
			if time.Since(begin) > 12*time.Second || c.box == nil {
				return
			}
			continue
		}
		note(phase(p), took)
	}
	for _, line := range c.badLogs() {
		t.Error(line)
	}
}

func (c *cell) pid() int { return c.box.ExtensionPID(lab.ExtensionName) }

// pass lets happen what happens at once.
func (c *cell) pass() error {
	time.Sleep(100 * time.Millisecond) // nothing tells that nothing more happens
	return nil
}

// during strikes, waits for the call, heals when it has ended or the fault has been held, and says how it ended. made is
// when the call is made: nil means that it is under way.
func (c *cell) during(p phase, r *running, made *call) (string, error) {
	if err := c.row.strike(c); err != nil {
		return "", fmt.Errorf("striking: %w", err)
	}
	if made != nil {
		r = c.start(c.ctx, *made)
	}
	return c.after(p, r)
}

// after waits for the call, with the fault in force, then heals.
func (c *cell) after(p phase, r *running) (string, error) {
	struck := time.Now()
	hold := time.NewTimer(c.row.hold)
	defer hold.Stop()
	var out result
	ended := false
	select {
	case out = <-r.done:
		ended = true
	case <-hold.C:
	}
	inForce := time.Since(struck)
	if err := c.row.heal(c); err != nil {
		return "", fmt.Errorf("healing: %w", err)
	}
	if !ended {
		out = <-r.done
	}
	took := max(0, out.ended.Sub(struck))
	got := out.signal
	if got == whole && !ended {
		got = healed
	}
	want := c.row.want[p]
	entry := fmt.Sprintf("%s %d ms", got, took.Milliseconds())
	switch {
	case got != want && !(want == whole && got == healed && p != onIdle && p != onDial):
		return entry, fmt.Errorf("got %q, want %q, with the fault in force for %v: %s", got, want, inForce, out)
	case want == cut && took > c.row.within:
		return entry, fmt.Errorf("the reset took %v, at most %v is right", took, c.row.within)
	case want == healed && took > inForce+3*time.Second:
		return entry, fmt.Errorf("the call ended %v after the fault, want soon", took-inForce)
	}
	return entry, c.recovered()
}

// recovered demands that every service can be called again, soon, and that the process holds no more than at the start.
func (c *cell) recovered() error {
	begin := time.Now()
	for _, service := range []string{spared, dialled, banner, web} {
		k := echo
		if service == web {
			k = post
		}
		var out result
		if !waittest.Within(5*time.Second, func() bool {
			out = <-c.start(c.ctx, call{kind: k, service: service, up: 10_000, down: 5000}).done
			return out.signal == whole
		}) {
			return fmt.Errorf("%v after the fault: %s", time.Since(begin), out)
		}
	}
	if err := c.box.Err(); err != nil {
		return err
	}
	if c.base == (usage{}) {
		return c.measureBase()
	}
	var u usage
	var err error
	slack := int64(memorySlack)
	if c.row.alone {
		slack = crowdMemory
	}
	if !waittest.Within(8*time.Second, func() bool { // a spare connection that is being dialled is given up after 5 s
		u, err = c.use()
		return err == nil && u.descriptors <= c.base.descriptors && u.memory <= c.base.memory+slack && u.threads <= maxThreads
	}) {
		return fmt.Errorf("the extension holds %+v, at the start %+v: %w", u, c.base, err)
	}
	return nil
}

const (
	// memorySlack is what the heap may be larger than at the start, when nothing was open yet: an idle process does not
	// collect for two minutes. After a crowd it may be what the crowd cost, and not more after the second: the soak looks
	// whether it comes back.
	memorySlack = 12 << 20

	// maxThreads is far above what Go needs for two processors.
	maxThreads = 32
)

// measureBase waits until the spare connections are there and the store's connection is idle.
func (c *cell) measureBase() (err error) {
	last, since := 0, time.Now()
	waittest.Within(3*time.Second, func() bool {
		var u usage
		if u, err = c.use(); u.descriptors != last {
			last, since = u.descriptors, time.Now()
		}
		c.base = u
		return time.Since(since) > 150*time.Millisecond
	})
	return err
}

// The phases.

// sparesAnd is a call that is not long; paced ones last 400 ms.
var (
	quick = call{kind: echo, up: 20_000}
	paced = call{down: 100 * piece, up: 100 * piece, pause: 4 * time.Millisecond}
)

func (c call) to(service string) *call { c.service = service; return &c }

func (c call) of(k kind) call { c.kind = k; return c }

func (c *cell) init() (string, error) {
	want := c.row.want[inInit]
	env := make(map[string]string)
	for name, value := range c.row.env {
		env[name] = strings.ReplaceAll(value, "$GATEWAY", c.Mesh.Gateway.Addr())
	}
	if want == none {
		if err := c.boot(c.ctx, env); err != nil {
			return "", err
		}
		return "–", c.recovered()
	}
	if err := c.row.strike(c); err != nil {
		return "", fmt.Errorf("striking: %w", err)
	}
	if err := c.boot(c.ctx, env); err != nil {
		return "", err
	}
	if ready := c.box.Init().Extensions[0].Ready; ready > 4*time.Second { // with forty others that start
		return "", fmt.Errorf("Next was called after %v, want about 2 s (R13)", ready)
	}
	return c.after(inInit, c.start(c.ctx, *quick.to(dialled)))
}

// spare waits until there is a spare connection, and nothing is being dialled. One whose dial hung is given up after 5 s, and
// not tried again until a call asks for it.
func (c *cell) spare() {
	dialled, since, asked := int64(-1), time.Now(), time.Now()
	waittest.Within(8*time.Second, func() bool {
		if n := c.Mesh.Gateway.Stats().Accepted; n != dialled {
			dialled, since = n, time.Now()
		}
		there := c.Sidecar(spared).Stats().Open >= 1
		if !there && time.Since(asked) > 500*time.Millisecond {
			<-c.start(c.ctx, *quick.to(spared)).done
			asked = time.Now()
		}
		return there && time.Since(since) > 100*time.Millisecond
	})
}

func (c *cell) idle() (string, error) {
	c.spare()
	return c.during(onIdle, nil, quick.to(spared))
}

func (c *cell) dial() (string, error) { return c.during(onDial, nil, quick.to(dialled)) }

// handshake slows the gateway down, so that there is a handshake to strike.
func (c *cell) handshake() (string, error) {
	c.spare()
	before := c.Mesh.Gateway.Stats().Routed
	c.Mesh.Gateway.SetFaults(meshsim.FaultPlan{Delay: 40 * time.Millisecond})
	r := c.start(c.ctx, *quick.to(dialled))
	if !waittest.Within(5*time.Second, func() bool { return c.Mesh.Gateway.Stats().Routed > before }) {
		return "", fmt.Errorf("nothing was dialled")
	}
	c.Mesh.Gateway.SetFaults(meshsim.FaultPlan{})
	return c.during(inHandshake, r, nil)
}

// started returns a call that is a quarter over.
func (c *cell) started(q *call) (*running, error) {
	r := c.start(c.ctx, *q)
	if !waittest.Within(5*time.Second, func() bool { return r.got.Load() > q.down/4 || q.kind == digest && c.uploads() }) {
		return nil, fmt.Errorf("the stream does not begin: %s", q)
	}
	return r, nil
}

// uploads reports whether an upload has arrived.
func (c *cell) uploads() bool { return len(c.site.visits(digest)) > 0 }

func (c *cell) stream() (string, error) {
	q := paced.of(c.row.stream)
	if q.kind == echo && c.row.hold > 12*time.Second {
		q.up *= 40 // it must be under way for as long as the fault is
	}
	r, err := c.started(q.to(dialled))
	if err != nil {
		return "", err
	}
	return c.during(inStream, r, nil)
}

func (c *cell) halfClosed() (string, error) {
	q := paced.of(answer)
	q.up = 3 * piece
	r, err := c.started(q.to(spared))
	if err != nil {
		return "", err
	}
	return c.during(onHalfClosed, r, nil)
}

// refresh strikes while the store is being asked.
func (c *cell) refresh() (string, error) {
	if _, err := c.StoreLeaf(0); err != nil {
		return "", err
	}
	c.Store.SetLatency("", 100*time.Millisecond)
	defer c.Store.SetLatency("", 0)
	asked := c.Store.Count("GetParameter")
	if !waittest.Within(15*time.Second, func() bool { return c.Store.Count("GetParameter") > asked }) {
		return "", fmt.Errorf("the store is not asked")
	}
	entry, err := c.during(inRefresh, nil, quick.to(dialled))
	if err != nil {
		return entry, err
	}
	// What was refused is asked for again.
	leaf, err := c.StoreLeaf(0)
	if err != nil {
		return entry, err
	}
	if !waittest.Within(15*time.Second, func() bool {
		<-c.start(c.ctx, *quick.to(dialled)).done
		return c.Sidecar(dialled).Stats().Clients[leaf.Serial()] > 0
	}) {
		return entry, fmt.Errorf("a new leaf is not taken up")
	}
	return entry, nil
}

// freeze strikes while nothing runs, for longer than what counts as a freeze (R14).
func (c *cell) freeze() (string, error) {
	q := paced.of(c.row.stream)
	r, err := c.started(q.to(dialled))
	if err != nil {
		return "", err
	}
	if err := c.box.Freeze(c.ctx); err != nil {
		return "", err
	}
	if err := c.row.strike(c); err != nil {
		return "", fmt.Errorf("striking: %w", err)
	}
	time.Sleep(1100 * time.Millisecond) // the freeze is a real one
	if err := c.box.Thaw(c.ctx); err != nil {
		return "", err
	}
	return c.after(inFreeze, r)
}

// shutdown ends the sandbox in the middle of an upload.
func (c *cell) shutdown() (string, error) {
	q := paced.of(digest)
	q.up *= 2
	r, err := c.started(q.to(dialled))
	if err != nil {
		return "", err
	}
	if err := c.row.strike(c); err != nil {
		return "", fmt.Errorf("striking: %w", err)
	}
	report, err := c.box.Shutdown(c.ctx, lambdasim.ReasonSpindown)
	if err != nil {
		return "", err
	}
	// What the fault would do to a process that is gone cannot be healed.
	switch c.row.fault {
	case "no descriptors are left", "stopped by SIGSTOP":
	default:
		if err := c.row.heal(c); err != nil {
			return "", fmt.Errorf("healing: %w", err)
		}
	}
	exit, found := report.Exit(lab.ExtensionName)
	if out := <-r.done; out.signal != cut && out.signal != whole {
		return "", fmt.Errorf("the upload: %s", out)
	}
	if !found || exit.Code != 0 || exit.Killed || exit.Time.After(report.Deadline) {
		return "", fmt.Errorf("the extension ended with %+v, the deadline was %v", exit, report.Deadline)
	}
	return fmt.Sprintf("%s %d ms", exits, report.Duration.Milliseconds()), nil
}
