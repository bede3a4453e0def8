// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

const (
	// fetchTimeout bounds one read of the store. Parameter Store answers within tens of milliseconds; a first TLS handshake
	// in a 128 MB function was measured at 745 ms by others.
	fetchTimeout = 5 * time.Second

	// firstRetry is the longest pause after the first failure, doubled at each further one up to maxRetry: thousands of
	// sandboxes that start together share 40 reads a second, so those that were refused must spread over many seconds,
	// and the first retries should come within the time that a dial may wait.
	firstRetry = 200 * time.Millisecond
	maxRetry   = 10 * time.Second

	// minRefresh keeps leaves with very little life left from being asked for in a tight loop.
	minRefresh = 250 * time.Millisecond
)

// refresher decides when the document is read again.
//
// Its state is one schedule: the document was last asked for at some instant, and is due again after some time. Every
// decision compares it with the clock anew, so that a freeze of any length needs no more than a poke.
type refresher struct {
	every time.Duration
	pokes chan struct{}            // capacity 1: a poke makes Run look at the schedule again
	next  atomic.Pointer[schedule] // nil if an attempt is due whatever the time

	mu     sync.Mutex
	err    error                   // of the latest attempt
	cancel context.CancelCauseFunc // of the attempt under way
}

// schedule says that an attempt is due some time after an instant. Immutable.
type schedule struct {
	since clock.Instant
	after time.Duration
}

func (r *refresher) init(every time.Duration) {
	r.every = every
	r.pokes = make(chan struct{}, 1)
}

func (r *refresher) poke() {
	select {
	case r.pokes <- struct{}{}:
	default:
	}
}

func (r *refresher) pokeIfDue(now clock.Instant) {
	if r.due(now) <= 0 {
		r.poke()
	}
}

// due tells how long it is until the next attempt; zero or less means now.
func (r *refresher) due(now clock.Instant) time.Duration {
	next := r.next.Load()
	if next == nil {
		return 0
	}
	return next.after - now.Sub(next.since)
}

func (r *refresher) lastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Run reads the document, and reads it again whenever it is due, until ctx ends. It looks up the gateways' names beside, and begins
// the first spares, which are Close's to end. One Run per State.
func (s *State) Run(ctx context.Context) {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { s.gateways.resolve(ctx) }) // while the store is read
	s.beginSpares()                               // likewise
	failures := 0
	for ctx.Err() == nil {
		if wait := s.refresh.due(s.settings.clock.Now()); wait > 0 {
			pause(ctx, wait, s.refresh.pokes)
			continue
		}
		asked := s.settings.clock.Now() // an answer that lay in the socket through a freeze is as old as the question (R14)
		switch err := s.attempt(ctx); {
		case err == nil:
			failures = 0
			s.stats.refreshed.Store(&asked)
			s.refresh.next.Store(&schedule{since: asked, after: s.untilRefresh()})
		case errors.Is(err, errThawed):
			s.refresh.next.Store(nil)
		default:
			failures++
			s.refresh.next.Store(&schedule{since: s.settings.clock.Now(), after: s.untilRetry(failures)})
		}
	}
}

// Thawed says that the process was frozen, however long: it is for a clock.Watch's OnThaw. What became due meanwhile is done at once:
// a refresh, and the replacement of spare connections that grew too old (R14). What was under way begins again.
func (s *State) Thawed(time.Duration) {
	r := &s.refresh
	r.mu.Lock()
	if r.cancel != nil {
		r.cancel(errThawed)
	}
	r.mu.Unlock()
	r.poke()
	for _, p := range s.spares {
		if p != nil {
			p.thawed()
		}
	}
}

// attempt reads the document once. After it, without an error, a valid snapshot is in use.
func (s *State) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &s.refresh
	r.mu.Lock()
	r.cancel = cancel
	r.mu.Unlock()

	err := s.fetch(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	r.mu.Lock()
	r.err = err
	r.cancel = nil
	r.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, context.Canceled):
	case errors.Is(err, errThawed):
		s.log.Debug("refresh starts again", "error", err)
	default:
		s.stats.refreshFailures.Add(1)
		s.warn(err)
	}
	return err
}

// fetch never panics: a document that trips over something nobody thought of must not end the function (R12).
func (s *State) fetch(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while refreshing: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	data, err := s.source.Fetch(ctx)
	if err != nil {
		return err
	}
	return s.update(data)
}

// warn logs a failed attempt by what it means for dials.
func (s *State) warn(err error) {
	snap := s.current.Load()
	switch {
	case snap == nil:
		s.log.Warn("no credentials yet", "error", err)
	case snap.validAt(s.settings.clock.Now().Wall()):
		s.log.Warn("refresh failed, the last good credentials stay in use", "error", err, "credentials", snap)
	default:
		s.log.Error("refresh failed, and the last good credentials have expired", "error", err, "credentials", snap)
	}
}

// untilRefresh is how long the document that was just read may serve: what is configured, up to a tenth less so that
// sandboxes that started together drift apart, or half of what is left of the leaf if that is less.
func (s *State) untilRefresh() time.Duration {
	after := s.refresh.every - time.Duration(rand.Int64N(int64(s.refresh.every)/10+1))
	return max(min(after, s.leafLeft()/2), minRefresh)
}

// untilRetry is the pause after a number of failures in a row: exponential, and anywhere between half and all of it. With
// good credentials in hand there is no hurry, and the pause may grow to the refresh interval.
func (s *State) untilRetry(failures int) time.Duration {
	limit := maxRetry
	if left := s.leafLeft(); left > 0 {
		limit = max(limit, min(s.refresh.every, left/2))
	}
	pause := limit
	if failures < 32 {
		pause = min(limit, firstRetry<<(failures-1))
	}
	return pause/2 + rand.N(pause/2+1)
}

// leafLeft is what is left of the leaf's life, zero without one, and less after its end.
func (s *State) leafLeft() time.Duration {
	snap := s.current.Load()
	if snap == nil {
		return 0
	}
	return snap.notAfter.Sub(s.settings.clock.Now().Wall())
}

// pause returns after d, at a poke, or when ctx ends.
func pause(ctx context.Context, d time.Duration, pokes <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-pokes:
	case <-ctx.Done():
	}
}
