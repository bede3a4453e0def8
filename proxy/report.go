// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"log/slog"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

// reportEvery is how often one cause at one upstream is logged. A function that retries in a loop would otherwise pay
// for its log by the megabyte.
const reportEvery = 10 * time.Second

// reporter logs failures, at most one of a kind in reportEvery, and with it how many were left out.
type reporter struct {
	log   *slog.Logger
	clock clock.Clock

	mu    sync.Mutex
	kinds map[kind]*reported // bounded by the number of upstreams and causes
}

type kind struct {
	upstream string
	cause    Cause
}

type reported struct {
	at      clock.Instant
	skipped int
}

func (r *reporter) failure(upstream string, cause Cause, err error) {
	now := r.clock.Now()
	r.mu.Lock()
	k := r.kinds[kind{upstream, cause}]
	if k == nil {
		if r.kinds == nil {
			r.kinds = make(map[kind]*reported)
		}
		k = new(reported)
		r.kinds[kind{upstream, cause}] = k
	}
	if now.Sub(k.at) < reportEvery {
		k.skipped++
		r.mu.Unlock()
		return
	}
	skipped := k.skipped
	*k = reported{at: now}
	r.mu.Unlock()

	args := []any{"upstream", upstream, "cause", string(cause), "error", err}
	if skipped > 0 {
		args = append(args, "not_logged", skipped)
	}
	r.log.Warn("connection failed", args...)
}
