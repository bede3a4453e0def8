// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Registrator keeps Consul and the store equal to the tagged functions of one account and region. New makes one.
type Registrator struct {
	cfg  Config
	log  *slog.Logger
	now  func() time.Time
	puts *rate.Limiter

	running sync.Mutex // one run at a time
	memory  memory     // of the runs so far
}

// New checks the configuration; it calls nothing. All that is wrong is reported at once, with the field, its value and what is
// accepted; each error wraps ErrConfig.
func New(cfg Config) (*Registrator, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg = cfg.resolved()
	limit := rate.Limit(cfg.PutsPerSecond)
	if limit < 0 {
		limit = rate.Inf
	}
	return &Registrator{cfg: cfg, log: cfg.Log, now: cfg.Now, puts: rate.NewLimiter(limit, 1)}, nil
}

// Plan reads and says what Run would do. It writes nothing, and waits for a run that is under way. The error wraps ErrObserve or
// ErrOwner; what could not be read in part is among the plan's Failures.
func (r *Registrator) Plan(ctx context.Context, scope Scope) (Plan, error) {
	r.running.Lock()
	defer r.running.Unlock()
	if scope.Skip != "" {
		return Plan{}, nil
	}
	o, _, err := r.observe(ctx, scope)
	if err != nil {
		return Plan{}, err
	}
	return calculate(o), nil
}

// Run makes Consul and the store equal to the functions in scope. It begins nothing new in the last 10 s before ctx's deadline, or in
// its last fifth if that is less. Runs of one Registrator wait for each other.
//
// The error wraps ErrObserve or ErrOwner if nothing was done. Otherwise it names what failed, and wraps ErrFailed, or ErrDeletes if
// the cap on deletes stopped them. The result is complete in each case.
func (r *Registrator) Run(ctx context.Context, scope Scope) (Result, error) {
	r.running.Lock()
	defer r.running.Unlock()
	if scope.Skip != "" {
		r.log.InfoContext(ctx, "nothing to look at", "reason", scope.Skip)
		return Result{}, nil
	}
	o, mem, err := r.observe(ctx, scope)
	if err != nil {
		result := Result{Failed: 1, Failures: []Note{{Name: "run", Text: err.Error()}}}
		r.log.ErrorContext(ctx, "run failed", "error", err.Error())
		return result, err
	}
	plan := calculate(o)
	if scope.DryRun || r.cfg.Policy == DryRun {
		result := r.dryRun(ctx, plan)
		return result, result.err()
	}
	r.memory = mem
	a := r.apply(ctx, o, plan)
	a = r.settleRaces(ctx, a)
	a.tell()
	a.result.Partial = len(o.failures) > 0
	if a.lookAgain {
		r.memory.lookAgain = true
	}
	a.warnOfShortLeaves(a.summarise())
	if scope.full() {
		if err := a.beat(ctx); err != nil {
			a.result.Warnings = append(a.result.Warnings, Note{"node " + r.cfg.Node, "the heartbeat could not be written: " + err.Error()})
		}
	}
	return r.finished(ctx, a.result)
}

// finished logs how a run ended, and says whether that is an error.
func (r *Registrator) finished(ctx context.Context, result Result) (Result, error) {
	result.count()
	err, level := result.err(), slog.LevelInfo
	if err != nil {
		level = slog.LevelError
	} else if result.Warned > 0 {
		level = slog.LevelWarn
	}
	r.log.Log(ctx, level, "run finished", "result", result)
	return result, err
}

// maxAnswered bounds the changes in the answer to a dry run. One with its differences takes about 1.3 KB, and Lambda takes 6 MB.
const maxAnswered = 2000

// dryRun is the result of a run that only plans.
func (r *Registrator) dryRun(ctx context.Context, p Plan) Result {
	result := Result{Warnings: p.Warnings, Failures: p.Failures, Left: p.Held, Enabled: p.owned, Plan: &p}
	if n := len(p.Changes); n > maxAnswered {
		p.Changes, p.More = p.Changes[:maxAnswered], n-maxAnswered
	}
	p.Warnings, p.Failures, p.Held = nil, nil, nil // the result has them
	result.count()
	r.log.InfoContext(ctx, "dry run finished", "result", result)
	return result
}
