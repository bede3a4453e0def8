// SPDX-License-Identifier: MPL-2.0

package consulproc

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// stopGrace is how long a program may take to end by itself. A server needs some 100 ms to close its database.
const stopGrace = 10 * time.Second

// killLimit bounds the wait after SIGKILL: only a process that is stuck in the kernel takes longer than a moment.
const killLimit = 10 * time.Second

// process is one running program.
type process struct {
	cmd    *exec.Cmd
	output *output
	exited chan struct{} // closed when it has been reaped; err is set before
	err    error         // how it ended, nil for exit code 0
}

// command is a program to run: the whole environment is env.
type command struct {
	path      string
	args, env []string
	dir       string
	log       *slog.Logger
}

// start runs the program until it ends or is ended.
func (c command) start() (*process, error) {
	// Bounded by its owner, not by a context: it lives on when the call that started it is over.
	cmd := exec.Command(c.path, c.args...) //nolint:noctx // see above
	cmd.Env, cmd.Dir = c.env, c.dir
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would be ours
	}
	cmd.SysProcAttr = processAttributes()
	cmd.WaitDelay = time.Second // should a grandchild hold the pipe
	out := &output{log: c.log}
	cmd.Stdout, cmd.Stderr = out, out
	p := &process{cmd: cmd, output: out, exited: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run starts the program and waits for its end on one thread of its own: the kernel takes the end of the thread that
// started a child for the end of its parent (Pdeathsig), and Go ends idle threads. It is a goroutine of its own.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.exited)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
}

// stop asks the program to end, and kills it if it has not within stopGrace.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return p.reaped()
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopGrace):
		return p.kill()
	}
}

// kill ends the program at once.
func (p *process) kill() error {
	// It fails only if the process has ended already.
	_ = p.cmd.Process.Kill()
	return p.reaped()
}

func (p *process) reaped() error {
	select {
	case <-p.exited:
		return nil
	case <-time.After(killLimit):
		return fmt.Errorf("process %d did not end %v after it was killed", p.cmd.Process.Pid, killLimit)
	}
}
