// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// Result is the function's answer to one invocation.
type Result struct {
	// RequestID of the invocation.
	RequestID string
	// Payload is the response, or the error document if FunctionError is set.
	Payload []byte
	// FunctionError is empty, or "Unhandled" when the function (not the
	// platform) failed: the X-Amz-Function-Error header of Lambda's Invoke.
	FunctionError string
	// Duration from the event to the response. Extensions may take longer.
	Duration time.Duration
	// ColdStart says that this invocation ran Init, after a reset.
	ColdStart bool
}

const unhandled = "Unhandled"

// invocation is one event on its way through a domain. result is guarded by the
// domain's lock.
type invocation struct {
	id, arn, traceID string
	payload          []byte
	posted, deadline time.Time
	result           *Result
}

// outcome is what Invoke returns.
type outcome struct {
	result Result
	err    error
}

// Invoke sends one event and returns the function's answer as soon as it is
// there; extensions that subscribed to INVOKE may still be at work, and the next
// call waits for them. A nil payload means {}. A frozen sandbox is thawed first.
//
// Errors: a *Fault when the invocation exceeded the function timeout, a process
// died in it or had died since the last one: the sandbox has been reset by then,
// and the next Invoke runs Init again, within the function timeout. An
// *InitError when that Init failed. ErrEnded after Shutdown or Kill. The error
// of ctx when ctx ends: the invocation itself goes on, as on Lambda.
func (s *Sandbox) Invoke(ctx context.Context, payload []byte) (Result, error) {
	if payload == nil {
		payload = []byte("{}")
	}
	if err := s.hold(ctx); err != nil {
		return Result{}, err
	}
	done := make(chan outcome, 1)
	s.work.Go(func() { s.serve(payload, done) })
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// serve carries one invocation from a thaw to the freeze or the reset that
// follows it, and sends exactly one outcome. It is a goroutine of its own and
// gives back the token.
func (s *Sandbox) serve(payload []byte, done chan<- outcome) {
	defer s.release()
	ctx, cancel := context.WithTimeoutCause(s.life, s.function.Timeout, errTimedOut)
	defer cancel()
	d := s.current.Load()
	if f := d.fault(); f != nil && !d.isOver() {
		done <- outcome{err: join(f, s.reset(d, ReasonFailure))}
		return
	}
	cold := d.isOver()
	if cold {
		if err := s.coldStart(ctx, true); err != nil {
			done <- outcome{err: err}
			return
		}
		d = s.current.Load()
	}
	s.thaw(d)
	i := s.newInvocation(ctx, payload)
	d.invoke(i, event{
		EventType: eventInvoke, DeadlineMs: i.deadline.UnixMilli(), RequestID: i.id,
		InvokedFunctionArn: i.arn, Tracing: &tracing{Type: "X-Amzn-Trace-Id", Value: i.traceID},
	})
	answered := false
	err := d.await(ctx, func() bool { return i.result != nil })
	if err == nil {
		i.result.ColdStart = cold
		done <- outcome{result: *i.result}
		answered = true
		err = d.await(ctx, d.invocationDone)
	}
	reason := ReasonFailure
	switch {
	case err == nil:
		s.freezeAfter(d)
		return
	case errors.Is(err, errTimedOut):
		reason = ReasonTimeout
		err = d.fail(&Fault{Type: SandboxTimedout, Message: fmt.Sprintf("Task timed out after %.2f seconds", s.function.Timeout.Seconds())})
	}
	err = join(err, s.reset(d, reason))
	if !answered {
		done <- outcome{err: err}
	}
}

func (s *Sandbox) newInvocation(ctx context.Context, payload []byte) *invocation {
	var trace [20]byte
	rand.Read(trace[:])
	now := time.Now()
	deadline, _ := ctx.Deadline()
	return &invocation{
		id:       newUUID(),
		arn:      s.function.arn(s.options),
		traceID:  fmt.Sprintf("Root=1-%08x-%x;Parent=%x;Sampled=0", now.Unix(), trace[:12], trace[12:]),
		payload:  payload,
		posted:   now,
		deadline: deadline,
	}
}
