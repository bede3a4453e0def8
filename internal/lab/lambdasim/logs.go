// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"
)

// maxLines bounds the lines kept per sandbox; older ones are dropped.
const maxLines = 20_000

// maxLineBytes is where a line without an end is cut: 256 KiB, the size of one
// event in CloudWatch Logs.
const maxLineBytes = 256 << 10

// Line is one line that a process wrote.
type Line struct {
	// Time at which the line's end was read.
	Time time.Time
	// Source is the extension's name, or SourceRuntime.
	Source string
	// Stderr tells the streams apart.
	Stderr bool
	// Text has no line end.
	Text string
}

// logBook holds the lines of a sandbox, over all its domains.
type logBook struct {
	sink func(Line) // may be nil

	mu      sync.Mutex
	lines   []Line
	dropped int           // lines dropped from the front
	changed chan struct{} // closed and replaced with each line
}

func newLogBook(sink func(Line)) *logBook {
	return &logBook{sink: sink, changed: make(chan struct{})}
}

func (b *logBook) add(l Line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Twice the bound before cutting makes the copy rare.
	if len(b.lines) >= 2*maxLines {
		b.dropped += len(b.lines) - maxLines
		b.lines = slices.Clone(b.lines[len(b.lines)-maxLines:])
	}
	b.lines = append(b.lines, l)
	if b.sink != nil {
		b.sink(l)
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *logBook) all() []Line {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

// wait returns the first line, past or future, for which match is true.
func (b *logBook) wait(ctx context.Context, match func(Line) bool) (Line, error) {
	next := 0
	for {
		b.mu.Lock()
		fresh := slices.Clone(b.lines[max(0, next-b.dropped):])
		next = b.dropped + len(b.lines)
		changed := b.changed
		b.mu.Unlock()
		for _, l := range fresh {
			if match(l) {
				return l, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Line{}, ctx.Err()
		}
	}
}

// lineWriter cuts one stream of one process into lines. Its owner calls Write
// from one goroutine, and flush when the stream has ended.
type lineWriter struct {
	book   *logBook
	source string
	stderr bool
	rest   []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		end := bytes.IndexByte(w.rest, '\n')
		if end < 0 {
			break
		}
		w.emit(w.rest[:end])
		w.rest = w.rest[end+1:]
	}
	if len(w.rest) >= maxLineBytes {
		w.flush()
	}
	return len(p), nil
}

func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.emit(w.rest)
		w.rest = nil
	}
}

func (w *lineWriter) emit(line []byte) {
	w.book.add(Line{Time: time.Now(), Source: w.source, Stderr: w.stderr, Text: string(line)})
}
