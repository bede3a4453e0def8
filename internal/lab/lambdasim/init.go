// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// InitReport has the timings of one Init. A zero duration means that this was
// not reached.
type InitReport struct {
	// Extensions, in the function's order.
	Extensions []ExtensionInit
	// RuntimeStarted and RuntimeReady are counted from the start of Init: when
	// the runtime was executed and when it first asked for an invocation.
	RuntimeStarted, RuntimeReady time.Duration
	// Total is the length of Init.
	Total time.Duration
	// Suppressed says that an invocation ran this Init, after a reset or a
	// failed first one.
	Suppressed bool
}

// ExtensionInit is one extension's part of Init. Durations are counted from its
// own start: the moment before it was executed.
type ExtensionInit struct {
	// Name of the extension.
	Name string
	// Registered is when it had registered, Ready when it first called Next.
	Registered, Ready time.Duration
	// Events it subscribed to.
	Events []string
}

// initialise runs Init: all extensions at once, the runtime when all of them
// have registered, done when the runtime and all extensions have asked for their
// first event. ctx carries the limit. It returns a *Fault, or the cause of ctx.
func (s *Sandbox) initialise(ctx context.Context, d *domain) error {
	err := s.bringUp(ctx, d)
	if errors.Is(err, errTimedOut) {
		err = d.fail(&Fault{Type: SandboxTimedout, Message: fmt.Sprintf("Init did not end within %v", time.Since(d.began).Round(time.Millisecond))})
	}
	d.finishInit()
	return err
}

func (s *Sandbox) bringUp(ctx context.Context, d *domain) error {
	if len(s.function.Extensions) > maxExtensions {
		return d.fail(&Fault{Type: ExtensionLaunchError, Message: fmt.Sprintf("extension limit (%d) reached", maxExtensions)})
	}
	for i, path := range s.function.Extensions {
		p := s.newProcess(filepath.Base(path), path, s.environment.forExtension())
		if err := s.launch(d, p, func() { d.agents[i].process = p }); err != nil {
			return d.fail(&Fault{Type: ExtensionLaunchError, Source: p.name, Message: err.Error()})
		}
	}
	if err := d.await(ctx, d.externalsRegistered); err != nil {
		return err
	}
	p := s.newProcess(SourceRuntime, s.function.Bootstrap, s.environment.forRuntime())
	p.cmd.Dir = filepath.Dir(s.function.Bootstrap)
	if err := s.launch(d, p, func() { d.runtime.process = p }); err != nil {
		return d.fail(&Fault{Type: RuntimeInvalidEntrypoint, Source: SourceRuntime, Message: err.Error()})
	}
	if err := d.await(ctx, d.runtimeReady); err != nil {
		return err
	}
	d.closeRegistration()
	return d.await(ctx, d.agentsReady)
}

// closeRegistration refuses internal extensions from here on: the runtime is
// ready, and what must be waited for is known.
func (d *domain) closeRegistration() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

// finishInit writes the report, whether Init succeeded or not.
func (d *domain) finishInit() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.report = InitReport{Total: time.Since(d.began), Suppressed: d.suppressed}
	for _, a := range d.agents {
		if !a.external {
			continue
		}
		e := ExtensionInit{Name: a.name, Events: slices.Clone(a.events)}
		if a.process != nil {
			e.Registered, e.Ready = since(a.process.started, a.registered), since(a.process.started, a.ready)
		}
		d.report.Extensions = append(d.report.Extensions, e)
	}
	if p := d.runtime.process; p != nil {
		d.report.RuntimeStarted, d.report.RuntimeReady = since(d.began, p.started), since(d.began, d.runtime.ready)
	}
}

func since(start, end time.Time) time.Duration {
	if end.IsZero() {
		return 0
	}
	return end.Sub(start)
}

// Init returns the timings of the latest Init.
func (s *Sandbox) Init() InitReport { return s.current.Load().initReport() }

func (d *domain) initReport() InitReport {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.report
}
