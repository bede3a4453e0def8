// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// process is a proxy under test.
type process struct {
	cmd     *exec.Cmd
	started time.Time // just before the process was made
	logFile string
	exited  chan struct{} // closed when it has ended
}

// start runs a program until stop, or until ctx ends. What it prints goes to a file, so that nobody has to read along.
func start(ctx context.Context, dir, name, path string, args, env []string) (*process, error) {
	out, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.CommandContext(ctx, path, args...), logFile: out.Name(), exited: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = env, dir, out, out
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go p.reap()
	return p, nil
}

// reap waits for the end. Owner: stop.
func (p *process) reap() {
	defer close(p.exited)
	_ = p.cmd.Wait() // that it was killed is no news
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// stop ends the process: politely, then not.
func (p *process) stop() {
	terminate(p.cmd.Process)
	select {
	case <-p.exited:
		return
	case <-time.After(2 * time.Second):
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// failure adds the last lines that the process printed to an error.
func (p *process) failure(err error) error {
	if p.hasExited() {
		err = errors.Join(err, fmt.Errorf("%s has ended: %s", filepath.Base(p.cmd.Path), p.cmd.ProcessState))
	}
	b, _ := os.ReadFile(p.logFile)
	if b = bytes.TrimSpace(b); len(b) > 600 {
		b = append([]byte("…"), b[len(b)-600:]...)
	}
	return fmt.Errorf("%w; it printed: %s", err, b)
}

// cpu returns what the process and its children have used so far.
func (p *process) cpu() (time.Duration, error) {
	pids, err := tree(p.pid())
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		d, err := cpuTime(pid)
		if err != nil {
			return 0, p.failure(err)
		}
		sum += d
	}
	return sum, nil
}

// memory returns the proportional set size of the process and its children, in bytes.
func (p *process) memory() (int64, error) {
	pids, err := tree(p.pid())
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		n, err := pss(pid)
		if err != nil {
			return 0, p.failure(err)
		}
		sum += n
	}
	return sum, nil
}
