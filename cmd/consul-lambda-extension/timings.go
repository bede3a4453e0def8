// SPDX-License-Identifier: MPL-2.0

package main

import (
	"log/slog"
	"time"
)

// timings logs how long after the start each step was done, if TRACE_ENABLED says so.
type timings struct {
	started time.Time
	on      bool
	log     *slog.Logger
}

func (t *timings) note(step string) {
	if t.on {
		t.log.Info("start-up", "step", step, "after_us", time.Since(t.started).Microseconds())
	}
}
