// SPDX-License-Identifier: MPL-2.0

package lab

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
)

// ErrLeak says that a process of the world has printed something that must never be seen (R18).
var ErrLeak = errors.New("a secret was printed")

// keepLines bounds what is kept of the processes' output until it is looked at.
const keepLines = 50_000

// pemMarks are how a PEM block begins in the ways in which bytes are printed by accident: as text, by %x, by %v, and by
// encoding/json, at each offset in a group of three that base64 knows.
var pemMarks = []string{
	"-----BEGIN ", "2d2d2d2d2d424547494e", "2D2D2D2D2D424547494E", "45 45 45 45 45 66 69 71 73 78", "LS0tLS1CRUdJTi", "0tLS0tQkVHSU4", "tLS0tLUJFR0lO",
}

// printed is all output of a world's processes that was not looked at yet, crash dumps too. The zero value is ready to use.
type printed struct {
	mu    sync.Mutex
	lines []lambdasim.Line
	leaks []error
}

// add is an OnLog. What is looked at here is every line that would be too much to keep.
func (p *printed) add(l lambdasim.Line, secrets func() []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) >= keepLines {
		p.look(secrets())
	}
	p.lines = append(p.lines, l)
}

// check looks at what came since the last check, and returns all that was ever found.
func (p *printed) check(secrets []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look(secrets)
	return errors.Join(p.leaks...)
}

// look searches the lines and drops them. There may be thousands of secrets and of lines: words are looked up, and only secrets
// that are no word are searched for. The caller holds mu.
func (p *printed) look(secrets []string) {
	words, phrases := make(map[string]bool), []string(nil)
	for _, s := range secrets {
		if word := strings.TrimRight(s, "="); strings.ContainsFunc(word, notBase64) {
			phrases = append(phrases, s)
		} else {
			words[word] = true
		}
	}
	for _, l := range p.lines {
		if what := leak(l.Text, words, phrases); what != "" {
			p.leaks = append(p.leaks, fmt.Errorf("lab: %w by %s (on stderr: %v): %s in a line of %d bytes", ErrLeak, l.Source, l.Stderr, what, len(l.Text)))
		}
	}
	p.lines = nil
}

// leak says what a line has that it must not have, "" if nothing. It does not quote it.
func leak(line string, words map[string]bool, phrases []string) string {
	for _, m := range pemMarks {
		if strings.Contains(line, m) {
			return "a PEM block"
		}
	}
	for _, s := range phrases {
		if strings.Contains(line, s) {
			return "a token"
		}
	}
	for word := range strings.FieldsFuncSeq(strings.ReplaceAll(line, `\n`, "\n"), notBase64) {
		if words[word] {
			return "a line of a document"
		}
	}
	return ""
}

func notBase64(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '+' && r != '/'
}

// Leaks looks through everything that the world's processes have printed so far, on stdout and stderr, for what [World.Secrets] gives
// and for anything that begins like a PEM block, also in hexadecimal, decimal and base64. The error wraps [ErrLeak] for each line
// that has some, and quotes none. Close does the same at the end, so that each test of each world is a test of R18.
func (w *World) Leaks() error { return w.printed.check(w.Secrets()) }

// watch has the output of a sandbox looked through.
func (w *World) watch(o lambdasim.Options) lambdasim.Options {
	o.OnLog = func(l lambdasim.Line) { w.printed.add(l, w.Secrets) }
	return o
}
