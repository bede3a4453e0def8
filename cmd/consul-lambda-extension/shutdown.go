// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/lambdaext"
)

const (
	// shutdownMargin is what is left of Lambda's deadline when the drain ends: to exit in, on a busy small function (R16).
	shutdownMargin = 200 * time.Millisecond

	// shutdownLimit is what Lambda gives external extensions. It is assumed on SIGTERM, and if an event names no deadline.
	shutdownLimit = 2 * time.Second

	// nextPause is how long it takes until Next is called again when it failed, doubled up to the maximum. Lambda's API is
	// local: it does not fail for long unless the sandbox ends.
	nextPause    = 50 * time.Millisecond
	maxNextPause = 5 * time.Second
)

// untilShutdown waits for SHUTDOWN, or for ctx to end, and returns when the process must have exited.
func (e *extension) untilShutdown(ctx context.Context, api *lambdaext.Client) time.Time {
	pause := nextPause
	for {
		event, err := api.Next(ctx)
		switch {
		case ctx.Err() != nil:
			e.log.Info("shutting down", "reason", "signal")
			return time.Now().Add(shutdownLimit)
		case errors.Is(err, lambdaext.ErrContainer):
			e.log.Error("the sandbox is broken, Lambda says", "error", err)
			return time.Now().Add(shutdownLimit)
		case err != nil:
			e.log.Warn("waiting for the next event failed, trying again", "error", err)
			sleep(ctx, pause)
			pause = min(2*pause, maxNextPause)
		case event.Type == lambdaext.Shutdown:
			e.log.Info("shutting down", "reason", string(event.ShutdownReason), "deadline", event.Deadline)
			return shutdownBy(time.Now(), event.Deadline)
		default:
			e.log.Debug("an event that nobody asked for", "type", string(event.Type))
			sleep(ctx, nextPause)
		}
	}
}

// shutdownBy is a deadline that can be relied on: what the event says, if it says something that can be.
func shutdownBy(now, deadline time.Time) time.Time {
	if limit := now.Add(shutdownLimit); deadline.Before(now) || deadline.After(limit) {
		return limit // none, or the clock was set meanwhile
	}
	return deadline
}

// drain ends everything in order.
func (e *extension) drain(deadline time.Time) {
	began := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), deadline.Add(-shutdownMargin))
	defer cancel()
	err := e.proxy.Shutdown(ctx)
	e.close(ctx)
	if e.metrics != nil && e.state != nil {
		e.metrics.write(clock.Clock(nil).Now())
	}
	st := e.proxy.Stats()
	args := []any{"took", time.Since(began).String(), "connections", st.Accepted, "sent", st.Sent, "received", st.Received}
	if len(st.Ended) > 0 {
		args = append(args, "ended", st.Ended)
	}
	if e.state != nil {
		tls := e.state.Stats()
		args = append(args, "handshakes", tls.Handshakes, "resumed", tls.Resumed, "spares_used", tls.Spares)
	}
	if err != nil {
		e.log.Warn("stopped, with connections that were still busy", args...)
		return
	}
	e.log.Info("stopped", args...)
}

// close ends what listen and serve started, and waits for it, but no longer than ctx: what hangs then ends with the process. It may
// be called more than once.
func (e *extension) close(ctx context.Context) {
	if e.proxy != nil {
		expired, cancel := context.WithCancel(context.Background())
		cancel()
		_ = e.proxy.Shutdown(expired)
	}
	if e.stop != nil {
		e.stop()
		select {
		case <-e.served:
		case <-ctx.Done():
		}
	}
	if e.state != nil {
		e.state.Close()
	}
}

// fail reports to Lambda why the extension cannot work, which ends Init, and returns the exit code.
func (e *extension) fail(ctx context.Context, api *lambdaext.Client, kind string, err error) int {
	e.log.Error("cannot start", "error_type", kind, "error", err)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := api.InitError(ctx, kind, err); err != nil {
		e.log.Error("cannot tell Lambda either", "error", err)
	}
	e.close(ctx)
	return 1
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
