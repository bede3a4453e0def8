// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// eventLog is the lab's standard error: a line for each event. It may be used by many goroutines.
type eventLog struct {
	mu    sync.Mutex
	w     io.Writer
	paint painter
}

// tell writes one line; empty parts are left out.
func (e *eventLog) tell(who string, parts ...string) {
	text := strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
	e.mu.Lock()
	defer e.mu.Unlock()
	_, _ = fmt.Fprintf(e.w, "%s  %-11s  %s\n", e.paint(dim, time.Now().Format(time.TimeOnly)), who, text)
}

// logger returns a logger that tells what the gateway and the sidecars have to say.
func (e *eventLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(lines{e}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: untimed}))
}

func untimed(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

// lines makes an event of each write, which is a line of slog's.
type lines struct{ events *eventLog }

func (l lines) Write(p []byte) (int, error) {
	l.events.tell("mesh", string(p))
	return len(p), nil
}
