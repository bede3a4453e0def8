// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Registrator keeps Consul and the store equal to the tagged functions of one account and region. New makes one.
type Registrator struct {
	cfg  Config
	log  *slog.Logger
	now  func() time.Time
	puts *rate.Limiter

	running sync.Mutex // one run at a time
	memory  memory
	told    bool // that leaves are too short

	mu    sync.Mutex
	asked map[Key]time.Time
}

// New checks the configuration; it calls nothing. All that is wrong is reported at once, with the field, its value and what is
// accepted; each error wraps ErrConfig.
func New(cfg Config) (*Registrator, error) {
	var errs []error
	refuse := func(field string, value any, want string) {
		errs = append(errs, fmt.Errorf("%w: %s is %q: want %s", ErrConfig, field, fmt.Sprint(value), want))
	}
	if err := cfg.Owner.check(); err != nil {
		errs = append(errs, fmt.Errorf("%w: Owner: %w", ErrConfig, err))
	}
	if cfg.Node == "" || strings.TrimSpace(cfg.Node) != cfg.Node {
		refuse("Node", cfg.Node, "the name of a node in the catalog")
	}
	if cfg.Datacenter != "" && !legalPart(cfg.Datacenter) {
		refuse("Datacenter", cfg.Datacenter, "the name of a datacenter, or nothing")
	}
	partitions, seen := make([]string, 0, 1), make(map[string]bool)
	for _, partition := range cfg.Partitions {
		if name := unlessDefault(partition); name != "" && !legalPart(name) {
			refuse("Partitions", partition, "names of partitions")
		} else if name != "" && !cfg.Enterprise {
			refuse("Partitions", partition, "none but the default one unless Enterprise is true")
		} else if !seen[name] {
			seen[name], partitions = true, append(partitions, name)
		}
	}
	if cfg.Partitions = partitions; len(partitions) == 0 {
		cfg.Partitions = []string{""}
	}
	if cfg.DataPrefix != "" {
		if sample, err := mesh.NewService("f", "", ""); err == nil {
			if _, err := sample.ParameterPath(cfg.DataPrefix); err != nil {
				errs = append(errs, fmt.Errorf("%w: DataPrefix: %w", ErrConfig, err))
			}
		}
		if cfg.Documents == nil {
			refuse("Documents", nil, "a store, as DataPrefix is set")
		}
	}
	if cfg.Policy < Sync || cfg.Policy > DryRun {
		refuse("Policy", cfg.Policy, strings.Join(policyNames[:], ", "))
	}
	if cfg.MaxDeletes < 0 {
		refuse("MaxDeletes", cfg.MaxDeletes, "a positive number, or 0 for the larger of 5 and 20 %")
	}
	if cfg.Schedule < 0 {
		refuse("Schedule", cfg.Schedule, "the time between two runs")
	}
	if cfg.Refresh < 0 {
		refuse("Refresh", cfg.Refresh, "the refresh frequency of the extensions")
	}
	if cfg.Concurrency < 0 {
		refuse("Concurrency", cfg.Concurrency, "a positive number, or 0 for 16")
	}
	if cfg.Functions == nil {
		refuse("Functions", nil, "AWS Lambda")
	}
	if cfg.Consul == nil {
		refuse("Consul", nil, "a Consul cluster")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	cfg.Schedule, cfg.Refresh = cmp.Or(cfg.Schedule, defaultSchedule), cmp.Or(cfg.Refresh, defaultRefresh)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, defaultConcurrency)
	limit := rate.Limit(cmp.Or(cfg.PutsPerSecond, defaultPutsPerSecond))
	if limit < 0 {
		limit = rate.Inf
	}
	r := &Registrator{cfg: cfg, log: cfg.Log, now: cfg.Now, puts: rate.NewLimiter(limit, 1), asked: make(map[Key]time.Time)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r, nil
}

// Plan reads and says what Run would do. It writes nothing.
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
// The error wraps ErrObserve or ErrOwner if nothing was done; otherwise it is Result.Err. The result is complete in each case.
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
		return result, result.Err()
	}
	r.memory = mem
	a := r.again(ctx, r.apply(ctx, o, plan))
	a.tell()
	a.result.Partial = len(o.failures) > 0
	if a.lookAgain {
		r.memory.lookAgain = true
	}
	a.summarise()
	if scope.full() {
		if err := a.beat(ctx); err != nil {
			a.result.Warnings = append(a.result.Warnings, Note{"node " + r.cfg.Node, "the heartbeat could not be written: " + err.Error()})
		}
	}
	a.result.count()
	err = a.result.Err()
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelError
	} else if a.result.Warned > 0 {
		level = slog.LevelWarn
	}
	r.log.Log(ctx, level, "run finished", "result", a.result)
	return a.result, err
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
