// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
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

// apiError is an answer other than 2xx, as the APIs write it.
type apiError struct {
	status  int
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func forbidden(errorType, format string, args ...any) *apiError {
	return &apiError{http.StatusForbidden, errorType, fmt.Sprintf(format, args...)}
}

// badTransition is the answer to a call that is not legal in the state of the
// extension. A second register is one too: there is no type of its own for it.
func badTransition(a *agent, to state) *apiError {
	return forbidden("Extension.InvalidExtensionState",
		"State transition from %s to %s failed for extension %s", a.state, to, a.name)
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

func (d *domain) register(name string, events []string) (*agent, *apiError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.agents, func(a *agent) bool { return a.name == name })
	external := i >= 0 && d.agents[i].external
	for _, e := range events {
		// An internal extension ends with the runtime, before SHUTDOWN is sent.
		if e != eventInvoke && (e != eventShutdown || !external) {
			return nil, forbidden("Extension.InvalidEventType", "%s: Invalid event type", e)
		}
	}
	var a *agent
	switch {
	case external:
		if a = d.agents[i]; a.state != stateStarted {
			return nil, badTransition(a, stateRegistered)
		}
	case d.closed:
		return nil, forbidden("Extension.RegistrationClosed", "Extension registration closed already")
	case i >= 0:
		return nil, forbidden("Extension.InvalidExtensionState", "Extension with this name already registered")
	case len(d.agents) >= maxExtensions:
		return nil, forbidden("Extension.TooManyExtensions", "Extension limit (%d) reached", maxExtensions)
	default:
		// Lambda takes every name that is not one of /opt/extensions for an
		// internal extension.
		a = newAgent(name, false)
		d.agents = append(d.agents, a)
	}
	a.state, a.events, a.registered = stateRegistered, slices.Clone(events), time.Now()
	d.broadcast()
	return a, nil
}

// byID finds a registered agent. d.mu is held.
func (d *domain) byID(id string) (*agent, *apiError) {
	for _, a := range d.agents {
		if a.id == id && a.state != stateStarted {
			return a, nil
		}
	}
	return nil, forbidden("Extension.UnknownExtensionIdentifier", "Unknown extension %s", id)
}

// next marks the agent ready and returns its next event, or nil if ctx (the
// request) ended first. The agent stays ready then, so that a second call is
// refused, as the emulator does.
func (d *domain) next(ctx context.Context, id string) (*event, *apiError) {
	d.mu.Lock()
	a, refused := d.byID(id)
	if refused == nil && a.state != stateRegistered && a.state != stateRunning {
		refused = badTransition(a, stateReady)
	}
	if refused != nil {
		d.mu.Unlock()
		return nil, refused
	}
	a.state = stateReady
	if a.ready.IsZero() {
		a.ready = time.Now()
	}
	d.broadcast()
	d.mu.Unlock()

	select {
	case e := <-a.mailbox:
		d.mu.Lock()
		defer d.mu.Unlock()
		a.state = stateRunning
		if e.EventType == eventShutdown {
			a.notified = time.Now()
		}
		return &e, nil
	case <-ctx.Done():
		return nil, nil
	}
}

// extensionError takes a report to init/error or exit/error. It becomes the
// domain's first error, but the domain goes on until the process has exited or
// the limit has passed: the extension is expected to exit by itself.
func (d *domain) extensionError(id string, to state, report ErrorReport) *apiError {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, refused := d.byID(id)
	if refused != nil {
		return refused
	}
	legal := a.state == stateRegistered
	if to == stateExitError {
		legal = legal || a.state == stateReady || a.state == stateRunning
	}
	switch {
	case a.state == to:
		return nil // repeated: only the first counts
	case !legal:
		return badTransition(a, to)
	}
	f := &Fault{Type: ExtensionInitError, Source: a.name, Reported: &report}
	if to == stateExitError {
		f.Type = ExtensionExitError
	}
	a.state = to
	d.recordLocked(f)
	d.broadcast()
	return nil
}

// Calls of the Runtime API.

func badRuntimeTransition(from, to state) *apiError {
	return forbidden("InvalidStateTransition", "State transition from %s to %s failed for runtime", from, to)
}

// runtimeNext marks the runtime ready and returns its next invocation, or nil if
// ctx (the request) ended first. Asked again before it responded, it gives the
// same invocation.
func (d *domain) runtimeNext(ctx context.Context) (*invocation, *apiError) {
	d.mu.Lock()
	r := &d.runtime
	switch r.state {
	case stateStarted, stateResponded:
		r.state, r.current = stateReady, nil
		if r.ready.IsZero() {
			r.ready = time.Now()
		}
		d.broadcast()
	case stateReady:
	case stateRunning:
		if current := r.current; len(r.mailbox) == 0 {
			d.mu.Unlock()
			return current, nil
		}
	default:
		from := r.state
		d.mu.Unlock()
		return nil, badRuntimeTransition(from, stateReady)
	}
	d.mu.Unlock()

	select {
	case i := <-r.mailbox:
		return i, nil
	case <-ctx.Done():
		return nil, nil
	}
}

// invoke hands an invocation to the runtime and INVOKE to those subscribed.
func (d *domain) invoke(i *invocation, e event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.agents {
		if a.subscribed(eventInvoke) {
			a.post(e)
		}
	}
	d.runtime.current, d.runtime.state = i, stateRunning
	d.runtime.mailbox <- i
}

// respond takes the runtime's answer to the invocation with that id.
func (d *domain) respond(id string, r Result) *apiError {
	d.mu.Lock()
	defer d.mu.Unlock()
	current := d.runtime.current
	if current == nil || current.id != id {
		return &apiError{http.StatusBadRequest, "InvalidRequestID", "Invalid request ID"}
	}
	if d.runtime.state != stateRunning {
		return badRuntimeTransition(d.runtime.state, stateResponded)
	}
	r.RequestID, r.Duration = id, time.Since(current.posted)
	d.runtime.state, current.result = stateResponded, &r
	d.broadcast()
	return nil
}

// runtimeInitError takes the runtime's report that it cannot start.
func (d *domain) runtimeInitError(report ErrorReport) *apiError {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runtime.state != stateStarted {
		return badRuntimeTransition(d.runtime.state, stateInitError)
	}
	f := &Fault{Type: report.Type, Source: SourceRuntime, Reported: &report}
	setDefault(&f.Type, "Runtime.Unknown")
	d.runtime.state = stateInitError
	d.recordLocked(f)
	d.broadcast()
	return nil
}
