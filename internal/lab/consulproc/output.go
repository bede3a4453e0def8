// SPDX-License-Identifier: MPL-2.0

package consulproc

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// outputLines is how much of a program's output an error shows: enough for the reason that a start failed.
const outputLines = 12

// output takes what a program says, logs each line and keeps the last ones. Consul says no tokens and no keys.
type output struct {
	log *slog.Logger

	mu    sync.Mutex
	rest  []byte // a line that has not ended
	lines []string
}

// Write implements io.Writer. It never fails: a program must not end because nobody listens.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rest = append(o.rest, p...)
	for {
		line, rest, ended := bytes.Cut(o.rest, []byte("\n"))
		if !ended {
			return len(p), nil
		}
		o.add(string(line))
		o.rest = rest
	}
}

func (o *output) add(line string) {
	if strings.TrimSpace(line) == "" {
		return
	}
	o.log.Debug("output", "line", line)
	if len(o.lines) == outputLines {
		o.lines = append(o.lines[:0], o.lines[1:]...)
	}
	o.lines = append(o.lines, line)
}

// String returns the last lines.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, "\n")
}

// saysPortTaken reports whether the program failed to listen because a port was in use. Its words are the operating
// system's, and the only sign there is.
func (o *output) saysPortTaken() bool { return strings.Contains(o.String(), "address already in use") }
