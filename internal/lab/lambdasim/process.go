// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// outputGrace is how long a reaped process's output is read when somebody who
// left its process group still holds the pipe.
const outputGrace = 500 * time.Millisecond

// reapLimit bounds the wait for a process after SIGKILL. Only a process stuck in
// the kernel takes longer than a moment.
const reapLimit = 10 * time.Second

// process is one running program and its process group.
type process struct {
	name           string
	cmd            *exec.Cmd
	stdout, stderr *lineWriter
	started        time.Time // just before it was executed

	mu     sync.Mutex
	ended  bool // the leader has ended: its process id may be free any moment
	killed bool // the sandbox sent SIGKILL before that

	exited chan struct{} // closed when reaped and its output read; exit is set before
	exit   Exit
}

// Exit is how a process ended.
type Exit struct {
	// Name is the extension's name, or SourceRuntime.
	Name string
	// PID is the process id, which was the process group's id too.
	PID int
	// Code is the exit code; -1 if a signal ended it.
	Code int
	// Signal is the signal that ended it; 0 if it exited.
	Signal syscall.Signal
	// Killed says that the sandbox sent it SIGKILL: at a deadline, or because
	// it was not subscribed to SHUTDOWN.
	Killed bool
	// Time at which it ended.
	Time time.Time
}

// signal sends sig to the whole group. It does nothing once the leader ended.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if sig == syscall.SIGKILL {
		p.killed = true
	}
	// The only errors are an empty group, which the unreaped leader rules out,
	// and missing permission (a set-user-id program), which the exit report
	// will show.
	_ = signalGroup(p.cmd.Process.Pid, sig)
}

// kill ends the group, frozen or not: SIGKILL needs no SIGCONT.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

// reap waits for the end of the process, ends what is left of its group, calls
// onExit and then closes exited. It is a goroutine of its own.
func (p *process) reap(onExit func(*process)) {
	pid := p.cmd.Process.Pid
	// The leader stays a zombie here, which keeps its id from being used
	// again while the group is signalled.
	awaitExit(pid)
	at := time.Now()
	p.mu.Lock()
	_ = signalGroup(pid, syscall.SIGKILL)
	p.ended = true
	killed := p.killed
	p.mu.Unlock()

	_ = p.cmd.Wait() // its exit status is read from ProcessState below
	p.stdout.flush()
	p.stderr.flush()
	p.exit = Exit{Name: p.name, PID: pid, Code: p.cmd.ProcessState.ExitCode(), Killed: killed, Time: at}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		p.exit.Signal = status.Signal()
	}
	onExit(p)
	close(p.exited)
}

// spawner starts processes on one OS thread that lives as long as the sandbox.
// Pdeathsig fires when the thread that started the child ends, not the process:
// started from any goroutine, a child would die with an idle thread.
type spawner struct {
	requests chan spawnRequest
	done     chan struct{}
}

type spawnRequest struct {
	cmd     *exec.Cmd
	started chan<- error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawnRequest), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	defer close(s.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for r := range s.requests {
		r.started <- r.cmd.Start()
	}
}

// start runs cmd.Start on the spawner's thread.
func (s *spawner) start(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	s.requests <- spawnRequest{cmd, started}
	return <-started
}

// stop ends the spawner. No start may be under way, and all its processes must
// have been reaped.
func (s *spawner) stop() {
	close(s.requests)
	<-s.done
}
