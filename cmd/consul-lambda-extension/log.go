// SPDX-License-Identifier: MPL-2.0

package main

import (
	"io"
	"log/slog"
	"time"
)

// newLogger writes JSON lines (R18). The level trace has a name of its own.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	if level == levelOff {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: nameTrace}))
}

func nameTrace(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.LevelKey && a.Value.Any() == levelTrace {
		a.Value = slog.StringValue("TRACE")
	}
	return a
}

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
