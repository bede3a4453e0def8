// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Sandbox is one execution environment of a function. Its methods may be called
// from any goroutine; those that change what it does (Invoke, Freeze, Thaw,
// Shutdown) wait for each other, as an environment does one thing at a time.
type Sandbox struct {
	function    Function
	options     Options
	environment environment
	book        *logBook
	api         *api
	spawner     *spawner
	current     atomic.Pointer[domain]

	// life ends with Kill and with the end of Shutdown; its cause is ErrEnded.
	life    context.Context
	endLife context.CancelCauseFunc
	work    sync.WaitGroup // reapers and invocations

	// busy holds a token while something is under way. frozen and ended are
	// touched by its holder only.
	busy   chan struct{}
	frozen bool
	ended  bool
}

// Start makes a sandbox and runs Init (a cold start). ctx bounds Init, not the
// life of the sandbox, which the caller ends with Shutdown or Kill.
//
// If Init fails the error is an *InitError; if ctx ends, its cause. In both
// cases nothing is left running and the sandbox is nil, except that
// Options.SuppressInitError keeps the sandbox of a failed Init.
func Start(ctx context.Context, fn Function, opt Options) (*Sandbox, error) {
	if !supported {
		return nil, fmt.Errorf("lambdasim: starting a sandbox: %w", errors.ErrUnsupported)
	}
	fn, err := fn.resolve()
	if err != nil {
		return nil, fmt.Errorf("lambdasim: reading the function: %w", err)
	}
	s := &Sandbox{function: fn, options: opt.resolve(), busy: make(chan struct{}, 1)}
	if s.api, err = newAPI(fn, s.options, s.current.Load); err != nil {
		return nil, fmt.Errorf("lambdasim: opening the API: %w", err)
	}
	s.book = newLogBook(opt.OnLog)
	s.environment = newEnvironment(fn, s.options, s.api.address())
	s.life, s.endLife = context.WithCancelCause(context.Background())
	s.spawner = newSpawner()
	s.busy <- struct{}{}
	defer s.release()

	limited, cancel := context.WithTimeoutCause(ctx, fn.InitLimit, errTimedOut)
	defer cancel()
	err = s.coldStart(limited, false)
	var failed *InitError
	if err == nil || errors.As(err, &failed) && s.options.SuppressInitError {
		return s, nil
	}
	return nil, join(err, s.finish())
}

// coldStart runs Init in a new domain. A failure has ended it: the error is an
// *InitError, or the cause of ctx. The caller holds the token.
func (s *Sandbox) coldStart(ctx context.Context, suppressed bool) error {
	names := make([]string, len(s.function.Extensions))
	for i, path := range s.function.Extensions {
		names[i] = filepath.Base(path)
	}
	d := newDomain(names, suppressed)
	s.current.Store(d)
	s.frozen = false
	err := s.initialise(ctx, d)
	var fault *Fault
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &fault):
		return join(err, d.kill())
	}
	reason := ReasonFailure
	if fault.Type == SandboxTimedout {
		reason = ReasonTimeout
	}
	report, err := d.shutdown(s.life, reason, s.function.ShutdownLimit)
	if err != nil {
		return fmt.Errorf("lambdasim: ending a failed Init: %w", err)
	}
	return &InitError{Fault: *fault, Report: d.initReport(), Logs: s.book.all(), Shutdown: report}
}

// newProcess makes a process whose output goes to the log book.
func (s *Sandbox) newProcess(name, path string, env []string) *process {
	p := &process{
		name:   name,
		cmd:    exec.Command(path), //nolint:noctx // its end is the sandbox's business: groups are killed, and reaped, in order
		stdout: &lineWriter{book: s.book, source: name},
		stderr: &lineWriter{book: s.book, source: name, stderr: true},
		exited: make(chan struct{}),
	}
	p.cmd.Env = env
	p.cmd.Dir = "/"
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.WaitDelay = outputGrace
	p.cmd.SysProcAttr = processAttributes()
	return p
}

// launch starts p and enters it into the domain with enter, which is called with
// d.mu held.
func (s *Sandbox) launch(d *domain, p *process, enter func()) error {
	if s.options.Prepare != nil {
		s.options.Prepare(p.cmd)
	}
	p.started = time.Now()
	if err := s.spawner.start(p.cmd); err != nil {
		return err
	}
	d.mu.Lock()
	enter()
	d.mu.Unlock()
	// Only now, so that no exit is seen before the entry.
	s.work.Go(func() { p.reap(d.exited) })
	return nil
}

// hold takes the token, or returns ErrEnded or the error of ctx.
func (s *Sandbox) hold(ctx context.Context) error {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.ended {
		s.release()
		return ErrEnded
	}
	return nil
}

func (s *Sandbox) release() { <-s.busy }

// reset ends the domain after a fault; the next invocation makes a new one. Once
// the sandbox is being killed there is no order any more.
func (s *Sandbox) reset(d *domain, reason Reason) error {
	s.thaw(d)
	if s.life.Err() != nil {
		return d.kill()
	}
	_, err := d.shutdown(s.life, reason, s.function.ShutdownLimit)
	return err
}

// Shutdown ends the sandbox as Lambda does and returns when nothing of it is
// left. It thaws first and waits for an invocation under way. When ctx ends
// before it is done, what is left is killed and the error of ctx is returned,
// with the report so far.
func (s *Sandbox) Shutdown(ctx context.Context, reason Reason) (ShutdownReport, error) {
	if err := s.hold(ctx); err != nil {
		s.Kill()
		return ShutdownReport{Reason: reason}, err
	}
	defer s.release()
	d := s.current.Load()
	s.thaw(d)
	window, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(s.life, func() { stop(ErrEnded) })()
	report, err := d.shutdown(window, reason, s.function.ShutdownLimit)
	return report, errors.Join(err, context.Cause(window), s.finish())
}

// Kill ends the sandbox without a word to its processes, as when a host fails,
// and returns when nothing of it is left. A frozen process dies without running
// again. Calls under way return ErrEnded. Killing twice does nothing.
func (s *Sandbox) Kill() {
	s.endLife(ErrEnded)
	_ = s.current.Load().kill() // finish does it again, when nothing can be started any more
	// Whoever holds the token gives up when life ends.
	if err := s.hold(context.Background()); err != nil {
		return
	}
	defer s.release()
	_ = s.finish() // nobody can do more about it than finish did
}

// finish kills what is left and closes the sandbox. The caller holds the token.
// On an error a process is stuck in the kernel; what watches it is left behind.
func (s *Sandbox) finish() error {
	s.ended = true
	s.endLife(ErrEnded)
	err := s.current.Load().kill()
	s.api.close()
	if err != nil {
		return err
	}
	s.work.Wait()
	s.spawner.stop()
	return nil
}

func (d *domain) isOver() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over
}

// Err returns the *Fault that ended the current processes, nil while there is
// none. The next Invoke returns it too, unless one has already been failed by it.
// It is set at once when a process dies, also between invocations.
func (s *Sandbox) Err() error {
	if f := s.current.Load().fault(); f != nil {
		return f
	}
	return nil
}

// Died returns a channel that is closed when Err is set. After a reset and a new
// Init it is another channel.
func (s *Sandbox) Died() <-chan struct{} { return s.current.Load().died }

// Logs returns the lines that the processes wrote, oldest first; at least the
// latest 20,000 are kept, over resets and after the end.
func (s *Sandbox) Logs() []Line { return s.book.all() }

// WaitLog returns the first line, already written or yet to come, for which
// match returns true, or the error of ctx.
func (s *Sandbox) WaitLog(ctx context.Context, match func(Line) bool) (Line, error) {
	return s.book.wait(ctx, match)
}

// APIAddress is the host:port that processes find in AWS_LAMBDA_RUNTIME_API.
func (s *Sandbox) APIAddress() string { return s.api.address() }

// ExtensionPID returns the process id of the extension of that name, 0 if there
// is none. It may have ended.
func (s *Sandbox) ExtensionPID(name string) int {
	d := s.current.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.agents {
		if a.name == name && a.process != nil {
			return a.process.cmd.Process.Pid
		}
	}
	return 0
}

// RuntimePID returns the process id of the runtime, 0 before it was started. It
// may have ended.
func (s *Sandbox) RuntimePID() int {
	d := s.current.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.runtime.process; p != nil {
		return p.cmd.Process.Pid
	}
	return 0
}

// PIDs returns the process ids of the extensions, in the function's order, and
// last of the runtime.
func (s *Sandbox) PIDs() []int {
	var pids []int
	for _, p := range s.current.Load().processes() {
		pids = append(pids, p.cmd.Process.Pid)
	}
	return pids
}
