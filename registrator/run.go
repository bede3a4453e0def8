// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Config says whose functions are kept where, and through what. The fields without a default are required.
type Config struct {
	// Owner is the account and region whose functions are kept, from the ARN that was invoked or from STS.
	Owner Owner
	// Node is the catalog's node that carries all services. Registrators of several accounts may share one.
	Node string
	// Datacenter is the only one that is kept; a function without a datacenter tag belongs to it. "": each that Consul knows, and
	// such a function belongs to the server's own.
	Datacenter string
	// Enterprise: functions may ask for a namespace and a partition.
	Enterprise bool
	// Partitions are those that are kept, of Consul Enterprise. nil: the default one.
	Partitions []string
	// DataPrefix is where documents are stored, such as "/consul/lambda". "": none are, and functions cannot call the mesh.
	DataPrefix string

	Policy Policy
	// MaxDeletes bounds the deletes of one run (G7). 0: the larger of 5 and a fifth of what is registered.
	MaxDeletes int

	// Schedule is the time between two full runs, Refresh that in which an extension reads its document anew. 0: 10 and 5 minutes.
	Schedule, Refresh time.Duration
	// Concurrency is how many changes, or reads, are under way at once. 0: 16.
	Concurrency int
	// PutsPerSecond bounds writes to Documents (G9). 0: 1, a third of the 3 that AWS grants an account in a region without higher
	// throughput; negative: no bound.
	PutsPerSecond float64

	Functions Functions
	Consul    Consul
	Documents Documents // nil if DataPrefix is ""

	// By says in the heartbeat who wrote it: a name and a version. May be "".
	By string
	// Log gets a line for each change and one for each run. nil: nothing is logged.
	Log *slog.Logger
	// Now is the wall clock. nil: time.Now.
	Now func() time.Time
}

const (
	defaultSchedule      = 10 * time.Minute // the predecessor's Terraform default
	defaultRefresh       = 5 * time.Minute  // the default of CONSUL_REFRESH_FREQUENCY
	defaultConcurrency   = 16               // 20 ms calls: 800 a second, more than any API below allows
	defaultPutsPerSecond = 1
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

// legalPart says whether s may be a datacenter's or a partition's name.
func legalPart(s string) bool {
	_, err := mesh.NewService(s, "", "")
	return err == nil
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

func (r *Result) count() {
	r.Skipped, r.Failed, r.Warned = len(r.Left), len(r.Failures), len(r.Warnings)
}

// summarise says what there is after the run, and once in a process that leaves are too short for how often they are looked at.
func (a *applier) summarise() {
	documents := make(map[Key]stored)
	for _, h := range a.o.holdings() {
		documents[h.Key] = h.stored
	}
	maps.Copy(documents, a.documents)
	for k := range a.deleted {
		delete(documents, k)
	}
	a.result.Enabled = len(documents)
	now, shortest := a.now(), time.Duration(0)
	for k, s := range documents {
		if s.version == 0 {
			continue
		}
		if left := s.notAfter.Sub(now); a.result.LeafOf == "" || left < a.result.LeafLeft {
			a.result.LeafLeft, a.result.LeafOf = left, k.String()
		}
		if life := s.notAfter.Sub(s.notBefore); shortest == 0 || life < shortest {
			shortest = life
		}
	}
	// Consul renews at 90 % of a leaf's life. What is left then has to last until the next run has seen it, the store has it and the
	// extension has read it.
	if need := a.o.slack + 2*time.Minute; shortest > 0 && shortest/10 < need && !a.told {
		a.told = true
		a.log.Warn("leaves are too short for this schedule: some may expire before they are renewed", "leaf_ttl", shortest,
			"schedule", a.cfg.Schedule, "refresh", a.cfg.Refresh,
			"remedy", fmt.Sprintf("set Consul's leaf_cert_ttl to %v or more, or a schedule and CONSUL_REFRESH_FREQUENCY of together less than %v",
				10*need, max(0, shortest/10-2*time.Minute)))
	}
}

// beat writes the heartbeat into the first node of our name that is nobody's machine (G5).
func (a *applier) beat(ctx context.Context) error {
	h := heartbeat{At: a.now().UTC(), By: a.cfg.By, Enabled: a.result.Enabled, Failed: len(a.result.Failures)}
	if a.result.LeafOf != "" {
		h.LeafLeft = a.result.LeafLeft.Round(time.Second).String()
	}
	if !a.lookAgain {
		h.Looked = a.memory.looked.UTC()
	}
	for _, realm := range a.o.place.realms() {
		if node, read := a.o.nodes[realm]; read {
			if written, err := a.beatIn(ctx, realm, node, h); written || err != nil {
				return err
			}
		}
	}
	return errors.New(`each node of that name exists and is not marked external-node "true"`)
}

// beatIn writes it in one realm. Another registrator may have written its own at the same moment: the node is then read anew.
func (a *applier) beatIn(ctx context.Context, realm Realm, node Node, h heartbeat) (written bool, err error) {
	fresh := true
	for _, name := range a.result.Changed { // the node's index is of before
		fresh = fresh && !strings.HasSuffix(name, " node "+a.cfg.Node)
	}
	for range 3 {
		if !fresh {
			if node, _, err = a.cfg.Consul.Services(ctx, realm, a.cfg.Node); err != nil {
				return false, err
			}
		}
		if node.Index != 0 && !node.is(nodeMeta) {
			return false, nil
		}
		value := map[string]string{heartbeatKey(a.cfg.Owner): h.String()}
		maps.Copy(value, nodeMeta) // of a node that there is not yet
		if err = a.cfg.Consul.PutNode(ctx, realm, node.with(a.cfg.Node, value)); !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
		fresh = false
	}
	return false, err
}

// askedBefore returns when Consul was asked for which leaf.
func (r *Registrator) askedBefore() map[Key]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.asked)
}

func (r *Registrator) askedNow(k Key, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[k] = at
}
