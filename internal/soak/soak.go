// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
)

// config is what the flags say.
type config struct {
	programs lab.Programs
	length   time.Duration
	seed     uint64
	callers  int // calls at a time
	progress io.Writer
	every    time.Duration // between two lines of progress
	rewrite  bool          // a line of progress takes the place of the one before
}

// soak is one run.
type soak struct {
	cfg    config
	rig    *rig
	ledger ledger
	rng    *rand.Rand // the schedule's
	deck   []trouble  // those that are still to be drawn

	invoking sync.Mutex // held while the function is invoked, and while everything is frozen: an invocation thaws

	mu sync.Mutex
	report
}

// run keeps the calls going and breaks things until the time is over.
func run(ctx context.Context, cfg config) (*report, error) {
	s := &soak{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.seed, 0))}
	s.report = report{seed: cfg.seed, perKind: make(map[kind]int), injected: make(map[string]int), answered: make(map[string]int), signals: make(map[signal]int)}
	var err error
	if s.rig, err = newRig(ctx, cfg.programs); err != nil {
		return nil, err
	}
	defer func() { _ = s.rig.close() }()
	err = s.rig.boot(ctx, map[string]string{"CONSUL_SERVICE_UPSTREAMS": upstreams + ",echo:7001"})
	if err != nil {
		return nil, err
	}
	s.began = time.Now()
	calling, stop := context.WithCancel(ctx)
	defer stop()
	var callers sync.WaitGroup
	for i := range cfg.callers {
		callers.Go(func() { s.call(calling, uint64(i)) })
	}
	callers.Go(func() { s.invoke(calling) })
	watching, look := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { s.watch(watching) })

	err = s.schedule(ctx)
	stop()
	callers.Wait()
	look()
	watcher.Wait()
	s.length = time.Since(s.began)
	if err == nil {
		err = s.finish(ctx)
	}
	return &s.report, err
}

// schedule alternates between time in which nothing is broken and faults, so that at least half of it is the former.
func (s *soak) schedule(ctx context.Context) error {
	if err := s.measure(ctx, &s.start); err != nil {
		return err
	}
	until, busy := s.began.Add(s.cfg.length), time.Duration(0)
	for ctx.Err() == nil {
		whole := max(busy*5/4, time.Second+time.Duration(s.rng.Int64N(int64(4*time.Second))))
		begin := time.Now()
		wait(ctx, whole)
		s.mu.Lock()
		s.quiet += time.Since(begin)
		s.windows++
		s.mu.Unlock()
		if time.Now().After(until) {
			break
		}
		begin = time.Now()
		do := s.injure
		if s.rng.IntN(5) == 0 {
			do = s.freeze
		}
		if err := do(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		wait(ctx, near)
		busy = time.Since(begin)
	}
	return nil
}

// injure injects one fault for a random time.
func (s *soak) injure(ctx context.Context) error {
	if len(s.deck) == 0 { // each kind once before any comes again
		s.deck = slices.Clone(troubles)
		s.rng.Shuffle(len(s.deck), func(i, j int) { s.deck[i], s.deck[j] = s.deck[j], s.deck[i] })
	}
	t := s.deck[0]
	s.deck = s.deck[1:]
	i := &injury{kind: t.kind, harms: t.harms}
	heal, err := t.strike(ctx, s, i)
	if heal == nil && errors.Is(err, errNobody) {
		return nil
	}
	if err == nil {
		s.mu.Lock()
		s.injected[t.kind]++
		s.mu.Unlock()
		wait(ctx, 200*time.Millisecond+time.Duration(s.rng.Int64N(int64(1300*time.Millisecond))))
	}
	healed := heal()
	s.ledger.heal(i)
	if errors.Is(err, errNobody) {
		err = nil
	}
	if err := errors.Join(err, healed); err != nil {
		return fmt.Errorf("%s: %w", t.kind, err)
	}
	return nil
}

// freeze stops the sandbox for a while. A call that was being dialled may be past its timeout at the thaw, no other may fail.
func (s *soak) freeze(ctx context.Context) error {
	s.invoking.Lock()
	defer s.invoking.Unlock()
	i := &injury{kind: "freeze", harms: dialling | before}
	s.ledger.strike(i)
	defer s.ledger.heal(i)
	begin := time.Now()
	if err := s.rig.box.Freeze(ctx); err != nil {
		return err
	}
	i.mark(&s.ledger)
	wait(ctx, 100*time.Millisecond+time.Duration(s.rng.Int64N(int64(5*time.Second))))
	if err := s.rig.box.Thaw(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	s.mu.Lock()
	s.freezes++
	s.frozen += time.Since(begin)
	s.mu.Unlock()
	return nil
}

// watch reads what the extension holds, once a second, and tells how it goes, until ctx ends.
func (s *soak) watch(ctx context.Context) {
	last := time.Now()
	for ctx.Err() == nil {
		wait(ctx, time.Second)
		u, err := s.rig.use()
		s.mu.Lock()
		if err == nil {
			s.most.memory = max(s.most.memory, u.memory)
			s.most.descriptors = max(s.most.descriptors, u.descriptors)
			s.most.threads = max(s.most.threads, u.threads)
		}
		if err := s.rig.box.Err(); err != nil {
			s.violate("the sandbox failed: %v", err)
		}
		for _, i := range s.rig.site.incidents() {
			r := result{call: i.call, began: i.at, ended: i.at, inStream: true}
			if s.ledger.answerFor(r) == nil {
				s.violate("call %s: the service saw a clean end after %d bytes", i.call, i.n)
			}
		}
		if time.Since(last) >= s.cfg.every {
			last = time.Now()
			s.tell(u)
		}
		s.mu.Unlock()
	}
}

// tell writes a line of progress. The caller holds mu.
func (s *soak) tell(u usage) {
	faults, failed := 0, 0
	for _, n := range s.injected {
		faults += n
	}
	for _, n := range s.answered {
		failed += n
	}
	begin, end := "", "\n"
	if s.cfg.rewrite {
		begin, end = "\r\x1b[K", ""
	}
	_, _ = fmt.Fprintf(s.cfg.progress, "%s%7s of %s  %d calls, %d MiB  %d faults, %d freezes: %d calls failed by them  VIOLATIONS %d  %d KiB, %d descriptors, %d threads%s",
		begin, time.Since(s.began).Round(time.Second), s.cfg.length, s.calls, s.bytes>>20, faults, s.freezes, failed, s.violated, u.memory>>10, u.descriptors, u.threads, end)
}

// measure takes what the extension holds when the callers have been at work for a while: the least of several readings,
// which is between two calls.
func (s *soak) measure(ctx context.Context, least *usage) error {
	wait(ctx, 4*time.Second)
	for range 40 {
		wait(ctx, 50*time.Millisecond)
		u, err := s.rig.use()
		if err != nil {
			return err
		}
		if *least == (usage{}) {
			*least = u
		}
		least.memory = min(least.memory, u.memory)
		least.descriptors = min(least.descriptors, u.descriptors)
		least.threads = min(least.threads, u.threads)
	}
	return nil
}

// finish looks at what is left when all is over: descriptors and memory back at what they were, the log, and the exit code.
func (s *soak) finish(ctx context.Context) error {
	flat := func() bool {
		return s.end.descriptors <= s.start.descriptors && s.end.memory <= s.start.memory+s.start.memory/4+(2<<20)
	}
	// The collector of an idle process runs every two minutes.
	for limit := time.Now().Add(150 * time.Second); time.Now().Before(limit) && ctx.Err() == nil; wait(ctx, 250*time.Millisecond) {
		var err error
		if s.end, err = s.rig.use(); err != nil {
			return err
		}
		if flat() {
			break
		}
	}
	if !flat() {
		s.violate("the extension holds %+v in the end, at the start %+v", s.end, s.start)
	}
	if s.most.threads > maxThreadsEver {
		s.violate("the extension had %d threads", s.most.threads)
	}
	shutdown, err := s.rig.box.Shutdown(context.WithoutCancel(ctx), lambdasim.ReasonSpindown)
	if err != nil {
		return err
	}
	if exit, _ := shutdown.Exit(lab.ExtensionName); exit.Code != 0 || exit.Killed {
		s.violate("the extension ended with %+v", exit)
	}
	for _, text := range append(s.rig.badLogs(), s.rig.site.blamed()...) {
		s.violate("%s", text)
	}
	return ctx.Err()
}

// maxThreadsEver is far above what Go needs for two processors.
const maxThreadsEver = 40

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
