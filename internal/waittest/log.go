// SPDX-License-Identifier: MPL-2.0

package waittest

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
)

// Log keeps what loggers and processes write while a test looks at it. The zero value is empty. Safe for concurrent use.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

var _ io.Writer = (*Log)(nil)

// Write keeps p. It never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns all that was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Count returns how many lines have the text.
func (l *Log) Count(text string) (n int) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// Await waits until a line has the text, as [Until] does.
func (l *Log) Await(t testing.TB, text string) {
	t.Helper()
	if !Within(Patience, func() bool { return l.Count(text) > 0 }) {
		t.Fatalf("waited %v for a line with %q in:\n%s", Patience, text, l)
	}
}
