// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"
)

// Reason is why a sandbox is shut down, as extensions are told. The values are
// the documented ones; the emulator writes them in lower case, and an extension
// must accept any.
type Reason string

const (
	// ReasonSpindown says: the sandbox is not needed any more.
	ReasonSpindown Reason = "SPINDOWN"
	// ReasonTimeout says: the function timeout was exceeded.
	ReasonTimeout Reason = "TIMEOUT"
	// ReasonFailure says: a process died, or Init failed.
	ReasonFailure Reason = "FAILURE"
)

// runtimeShare is the part of the shutdown window that the runtime is given
// between SIGTERM and SIGKILL (runtimeDeadlineShare in the emulator's core).
const runtimeShare = 0.3

// Windows of a shutdown (Extensions API, "Shutdown phase").
const (
	externalWindow = 2 * time.Second
	internalWindow = 500 * time.Millisecond
)

// ShutdownReport says how the processes of a sandbox were ended.
type ShutdownReport struct {
	// Reason that extensions were given.
	Reason Reason
	// Started is when the shutdown began, Deadline what SHUTDOWN said.
	Started, Deadline time.Time
	// Duration is how long it took until every process had been reaped.
	Duration time.Duration
	// Exits, in the order in which the processes ended. Those that ended
	// before the shutdown, such as a crashed one, come first.
	Exits []Exit
	// Notified is when each extension took the SHUTDOWN event, by name.
	Notified map[string]time.Time
}

// Exit returns how the process of that name ended; false if there was none.
func (r ShutdownReport) Exit(name string) (Exit, bool) {
	i := slices.IndexFunc(r.Exits, func(e Exit) bool { return e.Name == name })
	if i < 0 {
		return Exit{}, false
	}
	return r.Exits[i], true
}

// shutdown ends the processes of the domain in Lambda's order and returns when
// all have been reaped: the runtime first, then SHUTDOWN to the extensions that
// subscribed to it, SIGKILL to the others, and to all at the deadline. When ctx
// ends, what is left is killed at once. The processes must not be frozen.
func (d *domain) shutdown(ctx context.Context, reason Reason, limit time.Duration) (ShutdownReport, error) {
	d.beginEnd()
	window := limit
	if window == 0 {
		window = d.defaultWindow()
	}
	start := time.Now()
	r := ShutdownReport{Reason: reason, Started: start, Deadline: start.Add(window)}

	d.mu.Lock()
	runtime, agents := d.runtime.process, slices.Clone(d.agents)
	d.mu.Unlock()

	if runtime != nil {
		if window > 0 {
			runtime.signal(syscall.SIGTERM)
			awaitEnd(ctx, start.Add(time.Duration(float64(window)*runtimeShare)), runtime)
		}
		runtime.kill()
		// SHUTDOWN must not overtake the end of the runtime.
		awaitEnd(context.WithoutCancel(ctx), time.Now().Add(reapLimit), runtime)
	}

	d.mu.Lock()
	var subscribed []*process
	for _, a := range agents {
		switch {
		case a.process == nil:
		case a.subscribed(eventShutdown):
			a.post(event{EventType: eventShutdown, ShutdownReason: string(reason), DeadlineMs: r.Deadline.UnixMilli()})
			subscribed = append(subscribed, a.process)
		default:
			a.process.kill()
		}
	}
	d.mu.Unlock()
	awaitEnd(ctx, r.Deadline, subscribed...)

	err := d.kill()
	d.fillReport(&r)
	return r, err
}

// defaultWindow is what Lambda gives, by the kind of extensions there are.
func (d *domain) defaultWindow() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case slices.ContainsFunc(d.agents, func(a *agent) bool { return a.external }):
		return externalWindow
	case len(d.agents) > 0:
		return internalWindow
	default:
		return 0
	}
}

// kill ends every process at once and returns when all have been reaped.
func (d *domain) kill() error {
	d.beginEnd()
	all := d.processes()
	for _, p := range all {
		p.kill()
	}
	if !awaitEnd(context.Background(), time.Now().Add(reapLimit), all...) {
		return errors.New("a process did not end after SIGKILL")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	return nil
}

// awaitEnd waits until all have been reaped, ctx ends or the time comes, and
// reports whether all have.
func awaitEnd(ctx context.Context, until time.Time, all ...*process) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for _, p := range all {
		select {
		case <-p.exited:
			continue
		default:
		}
		select {
		case <-p.exited:
		case <-ctx.Done():
			return false
		case <-timer.C:
			return false
		}
	}
	return true
}

// fillReport adds what is known once the processes have been reaped.
func (d *domain) fillReport(r *ShutdownReport) {
	r.Duration = time.Since(r.Started)
	r.Notified = make(map[string]time.Time)
	for _, p := range d.processes() {
		select {
		case <-p.exited:
			r.Exits = append(r.Exits, p.exit)
		default: // reported as an error by kill
		}
	}
	slices.SortStableFunc(r.Exits, func(a, b Exit) int { return a.Time.Compare(b.Time) })
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.agents {
		if !a.notified.IsZero() {
			r.Notified[a.name] = a.notified
		}
	}
}
