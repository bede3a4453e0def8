// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
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
