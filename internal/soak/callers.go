// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
)

// call makes one call after the other until ctx ends.
func (s *soak) call(ctx context.Context, n uint64) {
	rng := rand.New(rand.NewPCG(s.cfg.seed, n+1))
	for ctx.Err() == nil {
		r := s.rig.start(context.WithoutCancel(ctx), randomCall(rng))
		s.note(<-r.done)
		wait(ctx, time.Duration(rng.Int64N(int64(40*time.Millisecond))))
	}
}

// randomCall draws a call. Sizes are spread over their magnitudes, up to 256 KiB and now and then to 8 MiB.
func randomCall(rng *rand.Rand) call {
	size := func() int64 {
		if rng.IntN(40) == 0 {
			return 1<<20 + rng.Int64N(7<<20)
		}
		return 1 + rng.Int64N(1<<(1+rng.IntN(18)))
	}
	kinds := []kind{echo, echo, echo, digest, digest, answer, source, source, late, abort, post, post}
	c := call{kind: kinds[rng.IntN(len(kinds))], up: size(), down: size(), service: []string{spared, dialled, banner}[rng.IntN(3)]}
	if c.kind == post {
		c.service = web
	}
	if rng.IntN(3) == 0 && max(c.up, c.down) < 100*piece {
		c.pause = time.Duration(1 + rng.Int64N(int64(20*time.Millisecond)))
	}
	return c
}

// note judges a call that has ended.
func (s *soak) note(r result) {
	quiet := s.ledger.quiet(r.began, r.ended)
	var by *injury
	if r.signal == cut {
		by = s.ledger.answerFor(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.perKind[r.kind]++
	s.signals[r.signal]++
	s.bytes += r.got
	if quiet {
		s.quietCalls++
	}
	took := r.ended.Sub(r.began)
	switch {
	case took > longest && (by == nil || by.kind != forgotten):
		s.violate("%s, which is too long, near it: %s", r, s.ledger.around(r))
	case r.signal == whole:
	case by != nil:
		s.answered[by.kind]++
	default:
		s.violate("%s, in a stream %v, in quiet %v, near it: %s", r, r.inStream, quiet, s.ledger.around(r))
	}
}

// violate notes what must not be. The caller holds mu.
func (s *soak) violate(format string, args ...any) {
	s.violated++
	if len(s.violations) < 50 {
		text := time.Now().UTC().Format(time.TimeOnly) + " " + fmt.Sprintf(format, args...)
		s.violations = append(s.violations, text)
		_, _ = fmt.Fprintf(s.cfg.progress, "\n%s\n", text)
		for _, l := range s.rig.box.Logs() { // what the extension said about it
			if l.Source == lab.ExtensionName && time.Since(l.Time) < 2*time.Second {
				_, _ = fmt.Fprintf(s.cfg.progress, "    %s\n", l.Text)
			}
		}
	}
}

// invoke makes the function itself call, again and again: an invocation is what thaws, and what a user sees.
func (s *soak) invoke(ctx context.Context) {
	event, _ := json.Marshal(map[string]any{"calls": []any{map[string]any{"tcp": s.rig.Addr(lab.Echo), "sendBytes": 100_000}}})
	for ctx.Err() == nil {
		s.invoking.Lock()
		began := time.Now()
		answer, err := s.rig.box.Invoke(context.WithoutCancel(ctx), event)
		out := result{call: call{kind: "invocation", service: lab.Echo}, signal: whole, began: began, ended: time.Now(), err: err}
		s.invoking.Unlock()
		out.judge(answer)
		s.note(out)
		wait(ctx, 500*time.Millisecond)
	}
}

// judge reads the function's answer.
func (r *result) judge(answer lambdasim.Result) {
	var response struct {
		Results []struct {
			Bytes, SentBytes            int64
			SHA256, SentSHA256, Failure string `json:",omitempty"`
			Error                       string
		}
	}
	if r.err == nil {
		r.err = json.Unmarshal(answer.Payload, &response)
	}
	if r.err != nil || len(response.Results) != 1 {
		r.signal, r.err = hung, fmt.Errorf("the function failed: %s: %w", answer.Payload, r.err)
		return
	}
	got := response.Results[0]
	r.got, r.inStream = got.Bytes, got.Bytes > 0
	switch {
	case strings.Contains(got.Error, "reset by peer"), strings.Contains(got.Error, "broken pipe"):
		r.signal = cut
	case got.Error != "":
		r.signal = hung
	case got.Bytes != got.SentBytes:
		r.signal = short
	case got.SHA256 != got.SentSHA256:
		r.signal = wrong
	}
	if got.Error != "" {
		r.err = errors.New(got.Error)
	}
}
