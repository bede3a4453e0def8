// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// transcript tells a story of steps, each with facts: as text while it happens, one line per fact, or as one JSON object
// when it is over. It is used by one goroutine.
type transcript struct {
	w     io.Writer
	json  bool
	paint painter
	steps []*step
	began time.Time
}

// step is one part of a story. Its exported fields are its JSON.
type step struct {
	Name    string   `json:"name"`
	OK      bool     `json:"ok"`
	Seconds float64  `json:"seconds"`
	Facts   []fact   `json:"facts"`
	Error   string   `json:"error,omitempty"`
	Log     []string `json:"log,omitempty"` // of the program that the step is about, if it failed

	out *transcript
}

// fact is one thing that was measured or seen. A duration is in milliseconds, a size in bytes.
type fact struct {
	Label string `json:"label"`
	Value any    `json:"value"`
	Unit  string `json:"unit,omitempty"`
	Note  string `json:"note,omitempty"`
}

// size is a number of bytes.
type size int64

func newTranscript(w io.Writer, asJSON bool) *transcript {
	return &transcript{w: w, json: asJSON, paint: painterFor(w), began: time.Now()}
}

// print writes text. A reader that has gone away is no reason to stop: what was started must be ended in order. See [output].
func (t *transcript) print(format string, args ...any) {
	if !t.json {
		_, _ = fmt.Fprintf(t.w, format, args...)
	}
}

// run tells one step. The log is asked for if it fails.
func (t *transcript) run(name, lead string, do func(*step) error, log func() []string) error {
	s := &step{Name: name, Facts: []fact{}, out: t}
	t.steps = append(t.steps, s)
	t.print("\n%s  %s\n", t.paint(bold, fmt.Sprintf("%d  %s", len(t.steps), name)), t.paint(dim, lead))
	begin := time.Now()
	err := do(s)
	s.Seconds = time.Since(begin).Seconds()
	if s.OK = err == nil; s.OK {
		t.print("   %s\n", t.paint(green, "ok"))
		return nil
	}
	s.Error = err.Error()
	if errors.Is(err, context.Canceled) {
		t.print("   interrupted\n")
		return err
	}
	s.Log = log()
	t.print("   %s  %s\n", t.paint(red, "FAILED"), strings.ReplaceAll(s.Error, "\n", "\n           "))
	if len(s.Log) > 0 {
		t.print("\n   its log:\n   %s\n", strings.Join(s.Log, "\n   "))
	}
	return err
}

// tell adds a fact, with a note that says what it means.
func (s *step) tell(label string, value any, note string) {
	f, text := fact{Label: label, Value: value, Note: note}, fmt.Sprint(value)
	switch v := value.(type) {
	case time.Duration:
		ms := float64(v.Microseconds()) / 1000
		f.Value, f.Unit, text = ms, "ms", fmt.Sprintf("%.1f ms", ms)
		if v >= 2*time.Second {
			text = fmt.Sprintf("%.1f s", v.Seconds())
		}
	case size:
		f.Unit, text = "bytes", v.String()
	}
	s.Facts = append(s.Facts, f)
	line, rest := fmt.Sprintf("   %-30s %12s", label, text), "   "
	if len(text) > 12 {
		// An identity, a line of the log: it gets the rest of the line, and its note another.
		line, rest = fmt.Sprintf("   %-30s %s", label, text), fmt.Sprintf("\n   %-30s ", "")
	}
	if note != "" {
		line += rest + s.out.paint(dim, note)
	}
	s.out.print("%s\n", line)
}

func (n size) String() string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", int64(n))
}

// end tells how the story went. It returns err, or errTold if that was told.
func (t *transcript) end(err error) error {
	took := time.Since(t.began)
	if t.json {
		steps := t.steps
		if steps == nil {
			steps = []*step{}
		}
		_ = json.NewEncoder(t.w).Encode(struct {
			OK      bool    `json:"ok"`
			Seconds float64 `json:"seconds"`
			Steps   []*step `json:"steps"`
		}{err == nil, took.Seconds(), steps})
	}
	if err == nil {
		t.print("\n%s in %.1f s\n", t.paint(green, fmt.Sprintf("all %d steps are as they should be", len(t.steps))), took.Seconds())
		return nil
	}
	if n := len(t.steps); n > 0 && !t.steps[n-1].OK && !errors.Is(err, context.Canceled) {
		t.print("\n%s\n", t.paint(red, fmt.Sprintf("step %d failed: %s", n, t.steps[n-1].Name)))
		return errTold
	}
	return err
}

// want returns an error that says what was expected and what was seen, unless ok.
func want(ok bool, expected string, seen any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("expected: %s\nseen:     %v", expected, seen)
}
