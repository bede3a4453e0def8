// SPDX-License-Identifier: MPL-2.0

// Package logs makes the loggers of our programs in Lambda: JSON lines on standard output, from the level that LOG_LEVEL names
// (R18). A function shares that variable with the extension beside it, so a foreign value is a warning and "info", never fatal.
package logs

import (
	"io"
	"log/slog"
	"math"

	"github.com/consul-lambda/consul-lambda/internal/environ"
)

// The levels that slog has no name for.
const (
	LevelTrace = slog.LevelDebug - 4
	LevelOff   = slog.Level(math.MaxInt)
)

// LevelFrom reads LOG_LEVEL.
func LevelFrom(r *environ.Reader) slog.Level {
	level := environ.Word("LOG_LEVEL", slog.LevelInfo, "trace, debug, info, warn, error or off", map[string]slog.Level{
		"trace": LevelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo,
		"warn": slog.LevelWarn, "error": slog.LevelError, "off": LevelOff,
	})
	level.Lenient = true
	return level.From(r)
}

// New returns a logger that writes what is at least of a level. LevelTrace is written as "TRACE".
func New(w io.Writer, level slog.Level) *slog.Logger {
	if level == LevelOff {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: nameTrace}))
}

func nameTrace(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.LevelKey && a.Value.Any() == LevelTrace {
		a.Value = slog.StringValue("TRACE")
	}
	return a
}
