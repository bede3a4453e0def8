// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"
)

// state of an extension or of the runtime. The names appear in messages and are
// those of the emulator's core.
type state string

const (
	stateStarted    state = "Started"
	stateRegistered state = "Registered"
	stateReady      state = "Ready"   // asked for an event
	stateRunning    state = "Running" // was given one
	stateResponded  state = "ResponseSent"
	stateInitError  state = "InitError"
	stateExitError  state = "ExitError"
)

// Events an extension may subscribe to.
const (
	eventInvoke   = "INVOKE"
	eventShutdown = "SHUTDOWN"
)

// domain is one life of a sandbox's processes, from Init to a reset: what has
// registered, in which state it is and whether anything failed. It does no I/O.
//
// Everything below mu is guarded by it. changed is closed and replaced whenever
// any of it changes, so that every barrier of Lambda is one predicate given to
// await.
type domain struct {
	began      time.Time
	suppressed bool          // Init is run by an invocation
	died       chan struct{} // closed with failed

	mu      sync.Mutex
	changed chan struct{}
	agents  []*agent // external extensions in the function's order, then internal ones
	runtime runtimeState
	closed  bool   // no registration any more
	ending  bool   // exits are expected from here on
	over    bool   // all processes have been ended
	first   *Fault // first error reported or seen
	failed  *Fault // set once processes have ended or a limit has passed
	report  InitReport
}

// agent is an extension in the words of Lambda's own code: external ones are
// processes, internal ones live inside the runtime.
type agent struct {
	name       string
	id         string
	external   bool
	events     []string // subscribed to
	state      state
	mailbox    chan event // capacity 1: a later event replaces one not yet taken
	process    *process   // nil for an internal one, and before the launch
	registered time.Time
	ready      time.Time
	notified   time.Time // when SHUTDOWN was taken
}

type runtimeState struct {
	state   state
	mailbox chan *invocation // capacity 1
	current *invocation      // nil once the runtime asks for the next
	process *process
	ready   time.Time
}

// event is what the Extensions API answers to Next.
type event struct {
	EventType          string   `json:"eventType"`
	DeadlineMs         int64    `json:"deadlineMs"`
	RequestID          string   `json:"requestId,omitempty"`
	InvokedFunctionArn string   `json:"invokedFunctionArn,omitempty"`
	Tracing            *tracing `json:"tracing,omitempty"`
	ShutdownReason     string   `json:"shutdownReason,omitempty"`
}

type tracing struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

func newDomain(extensions []string, suppressed bool) *domain {
	d := &domain{
		began:      time.Now(),
		suppressed: suppressed,
		died:       make(chan struct{}),
		changed:    make(chan struct{}),
		runtime:    runtimeState{state: stateStarted, mailbox: make(chan *invocation, 1)},
	}
	for _, name := range extensions {
		d.agents = append(d.agents, newAgent(name, true))
	}
	return d
}

func newAgent(name string, external bool) *agent {
	return &agent{name: name, id: newUUID(), external: external, state: stateStarted, mailbox: make(chan event, 1)}
}

// newUUID returns a random (version 4) UUID.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// broadcast wakes every await. d.mu is held.
func (d *domain) broadcast() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// await returns nil once reached, called with d.mu held, is true; else the fault
// that ended the domain, or the cause of ctx.
func (d *domain) await(ctx context.Context, reached func() bool) error {
	for {
		d.mu.Lock()
		ok, failed, changed := reached(), d.failed, d.changed
		d.mu.Unlock()
		switch {
		case ok:
			return nil
		case failed != nil:
			return failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// fail ends the domain with f, unless an earlier error was reported: the first
// one is what Lambda shows. It returns the fault that holds.
func (d *domain) fail(f *Fault) *Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recordLocked(f)
	return d.failLocked()
}

func (d *domain) recordLocked(f *Fault) {
	if d.first == nil {
		d.first = f
	}
}

func (d *domain) failLocked() *Fault {
	if d.failed == nil {
		d.failed = d.first
		close(d.died)
		d.broadcast()
	}
	return d.failed
}

func (d *domain) fault() *Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// exited takes note of the end of a process. Unless the domain is being ended,
// it is a failure, whatever the exit code.
func (d *domain) exited(p *process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ending {
		return
	}
	f := &Fault{Type: ExtensionCrash, Source: p.name, Message: p.cmd.ProcessState.String()}
	if p == d.runtime.process {
		f.Type = RuntimeExitError
	}
	d.recordLocked(f)
	_ = d.failLocked() // the fault is recorded: whoever waits is told of it
}

// beginEnd makes every later exit an expected one.
func (d *domain) beginEnd() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ending, d.closed = true, true
}

// processes returns those that were started: extensions first, the runtime last.
func (d *domain) processes() []*process {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*process
	for _, a := range d.agents {
		if a.process != nil {
			all = append(all, a.process)
		}
	}
	if d.runtime.process != nil {
		all = append(all, d.runtime.process)
	}
	return all
}

// Barriers. d.mu is held.

func (d *domain) externalsRegistered() bool {
	return !slices.ContainsFunc(d.agents, func(a *agent) bool { return a.external && a.state == stateStarted })
}

func (d *domain) runtimeReady() bool { return d.runtime.state == stateReady }

func (d *domain) agentsReady() bool {
	return !slices.ContainsFunc(d.agents, func(a *agent) bool { return a.state != stateReady })
}

func (d *domain) invocationDone() bool {
	return d.runtimeReady() && !slices.ContainsFunc(d.agents, func(a *agent) bool {
		return a.subscribed(eventInvoke) && a.state != stateReady
	})
}

func (a *agent) subscribed(to string) bool { return slices.Contains(a.events, to) }

// post gives the agent an event, in place of one it has not taken. d.mu is held.
func (a *agent) post(e event) {
	select {
	case <-a.mailbox:
	default:
	}
	a.mailbox <- e
	if a.state == stateReady {
		a.state = stateRunning
	}
}

// Calls of the Extensions API.

// Calls of the Runtime API.
