// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

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
