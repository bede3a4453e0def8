// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"fmt"
	"time"
)

// stopLimit bounds the wait for stopped processes. It takes a fraction of a
// millisecond each, unless a cpu limit keeps them from getting to the signal.
const stopLimit = 5 * time.Second

// stopPoll is the pause between two looks at their state.
const stopPoll = 200 * time.Microsecond

// freeze stops every process of the domain and returns when no thread of them
// can run. On an error they are running again.
func (d *domain) freeze() error {
	all := d.processes()
	for _, p := range all {
		p.signal(signalStop)
	}
	deadline := time.Now().Add(stopLimit)
	for _, p := range all {
		if err := p.awaitStopped(deadline); err != nil {
			d.thaw()
			return fmt.Errorf("freezing %s: %w", p.name, err)
		}
	}
	return nil
}

// thaw continues every process. They run when it returns: the kernel wakes them
// while it accepts the signal.
func (d *domain) thaw() {
	for _, p := range d.processes() {
		p.signal(signalContinue)
	}
}

func (p *process) awaitStopped(deadline time.Time) error {
	for {
		p.mu.Lock()
		ok, err := p.ended, error(nil)
		if !ok {
			ok, err = stopped(p.cmd.Process.Pid)
		}
		p.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("still running %v after SIGSTOP", stopLimit)
		}
		time.Sleep(stopPoll)
	}
}

// freezeAfter is what follows an invocation in which all went well.
func (s *Sandbox) freezeAfter(d *domain) {
	if !s.options.AutoFreeze || s.frozen {
		return
	}
	if err := d.freeze(); err != nil {
		_ = d.fail(&Fault{Type: LabFreezeFailed, Message: err.Error()})
		return
	}
	s.frozen = true
}

// thaw continues the domain if it is frozen. The caller holds the token.
func (s *Sandbox) thaw(d *domain) {
	if s.frozen {
		d.thaw()
		s.frozen = false
	}
}

// Freeze stops every process of the sandbox, and returns when no thread of them
// runs any more. It waits for an invocation under way to end, with its
// extensions. Freezing a frozen sandbox does nothing. On an error the processes
// run.
func (s *Sandbox) Freeze(ctx context.Context) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	defer s.release()
	if s.frozen {
		return nil
	}
	if err := s.current.Load().freeze(); err != nil {
		return fmt.Errorf("lambdasim: %w", err)
	}
	s.frozen = true
	return nil
}

// Thaw continues the processes of a frozen sandbox without giving them an event.
// Invoke and Shutdown thaw by themselves.
func (s *Sandbox) Thaw(ctx context.Context) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	defer s.release()
	s.thaw(s.current.Load())
	return nil
}
