// SPDX-License-Identifier: MPL-2.0

package repotest

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// A page that points at what is gone sends its reader nowhere, and nobody is told. Links to elsewhere are not followed: no test needs a
// network.
func TestWhatThePagesPointAtIsThere(t *testing.T) {
	all := files(t)
	repo := newTree(all)
	for _, f := range all {
		if path.Ext(f.name) != ".md" || isTestdata(f.name) {
			continue
		}
		for _, complaint := range repo.dangling(f) {
			t.Errorf("%s %s", f.name, complaint)
		}
	}
}

// A workflow does what can be done without it.
func TestWhatTheWorkflowsMakeIsThere(t *testing.T) {
	all := files(t)
	repo := newTree(all)
	for _, f := range all {
		if isWorkflow(f.name) {
			for _, complaint := range repo.unmakeable(f) {
				t.Errorf("%s %s", f.name, complaint)
			}
		}
	}
}

// unmakeable says which targets a workflow makes that are not there.
func (r tree) unmakeable(f file) []string {
	var complaints []string
	for i, line := range strings.Split(string(f.content), "\n") {
		if m := aRun.FindStringSubmatch(line); len(m) == 2 && !r.targets[m[1]] {
			complaints = append(complaints, fmt.Sprintf("line %d makes %s: there is no such target", i+1, m[1]))
		}
	}
	return complaints
}

func isTestdata(name string) bool { return slices.Contains(strings.Split(name, "/"), "testdata") }

// tree is what a page may point at.
type tree struct {
	paths   map[string]bool            // files and folders, from the root
	bases   map[string]bool            // file names without their folder
	anchors map[string]map[string]bool // of each page
	tests   map[string]bool            // TestX and FuzzX
	targets map[string]bool            // of make
}

var (
	testFunc   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
	makeTarget = regexp.MustCompile(`(?m)^([a-z0-9-]+):(?:[^=]|$)`)
)

func newTree(all []file) tree {
	r := tree{
		paths: map[string]bool{".": true}, bases: make(map[string]bool), anchors: make(map[string]map[string]bool),
		tests: make(map[string]bool), targets: make(map[string]bool),
	}
	for _, f := range all {
		for name := f.name; name != "."; name = path.Dir(name) {
			r.paths[name] = true
		}
		r.bases[path.Base(f.name)] = true
		switch {
		case path.Ext(f.name) == ".md":
			r.anchors[f.name] = anchors(string(f.content))
		case strings.HasSuffix(f.name, "_test.go"):
			for _, m := range testFunc.FindAllSubmatch(f.content, -1) {
				r.tests[string(m[1])] = true
			}
		case f.name == "Makefile":
			for _, m := range makeTarget.FindAllSubmatch(f.content, -1) {
				r.targets[string(m[1])] = true
			}
		}
	}
	return r
}

var (
	heading  = regexp.MustCompile(`^#{1,6}\s+(.*?)(?:\s+#+)?\s*$`)
	inline   = regexp.MustCompile(`\[[^\[\]]*\]\(([^()\s]+)(?:\s+"[^"]*")?\)`)
	defined  = regexp.MustCompile(`^\s{0,3}\[[^\]^]+\]:\s+(\S+)`)
	codeSpan = regexp.MustCompile("`([^`]+)`")
	linkText = regexp.MustCompile(`\[([^\[\]]*)\]\([^()]*\)`)
	scheme   = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
)

// prose returns the lines of a page, those of code blocks blanked: what stands there is an example.
func prose(page string) []string {
	lines := strings.Split(page, "\n")
	fence := ""
	for i, line := range lines {
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case fence != "":
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
			lines[i] = ""
		case strings.HasPrefix(trimmed, "```"), strings.HasPrefix(trimmed, "~~~"):
			fence, lines[i] = trimmed[:3], ""
		case strings.HasPrefix(line, "    ") && (i == 0 || strings.TrimSpace(lines[i-1]) == ""):
			lines[i] = ""
		}
	}
	return lines
}

// anchors are those that GitHub gives to the headings of a page: in lower case, spaces to hyphens, without most of the punctuation, and
// numbered where they repeat.
func anchors(page string) map[string]bool {
	found := make(map[string]bool)
	for _, line := range prose(page) {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		text := linkText.ReplaceAllString(m[1], "$1")
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, text)
		unique := anchor
		for n := 1; found[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", anchor, n)
		}
		found[unique] = true
	}
	return found
}

// dangling says what a page points at that is not there.
func (r tree) dangling(f file) []string {
	var complaints []string
	for i, line := range prose(string(f.content)) {
		say := func(format string, args ...any) {
			complaints = append(complaints, fmt.Sprintf("line %d ", i+1)+fmt.Sprintf(format, args...))
		}
		for _, m := range codeSpan.FindAllStringSubmatch(line, -1) {
			if wrong := r.named(f, m[1]); wrong != "" {
				say("names `%s`: %s", m[1], wrong)
			}
		}
		bare := codeSpan.ReplaceAllString(line, "code")
		for _, m := range slices.Concat(inline.FindAllStringSubmatch(bare, -1), defined.FindAllStringSubmatch(bare, -1)) {
			if wrong := r.linked(f, m[1]); wrong != "" {
				say("links to %s: %s", m[1], wrong)
			}
		}
	}
	return complaints
}

// linked says what is wrong with the target of a link; "" for nothing.
func (r tree) linked(f file, target string) string {
	if scheme.MatchString(target) {
		return ""
	}
	name, anchor, anchored := strings.Cut(target, "#")
	if strings.HasPrefix(name, "/") {
		return "a link starts from the folder of its page"
	}
	at := f.name
	if name != "" {
		at = path.Join(path.Dir(f.name), name)
	}
	if !r.paths[at] {
		return "there is no such file"
	}
	if !anchored {
		return ""
	}
	if on, page := r.anchors[at]; !page {
		return "only a page has headings"
	} else if !on[anchor] {
		return fmt.Sprintf("no heading of %s is that, it has %s", at, strings.Join(slices.Sorted(maps.Keys(on)), ", "))
	}
	return ""
}

var (
	aPath   = regexp.MustCompile(`^[\w./*-]+$`)
	aSource = regexp.MustCompile(`^[\w.-]+\.(?:go|md|sh|yml)$`)
	aTest   = regexp.MustCompile(`^(?:Test|Fuzz)[A-Z]\w*$`)
	aRun    = regexp.MustCompile(`^\s+(?:- )?(?:run: )?make ([a-z][a-z0-9-]*)`)
	aMake   = regexp.MustCompile(`^make ([a-z][a-z0-9-]*)\b`)
)

// named says what is wrong with a code span that names a part of the repository; "" for nothing, and for one that names something else.
// It names a part if it is a path that begins with one of our folders, the name of a source file, of a test, or a call of make.
func (r tree) named(f file, span string) string {
	made := []string{"bin", "dist"} // by make
	first, _, isPath := strings.Cut(strings.TrimPrefix(span, "./"), "/")
	switch m := aMake.FindStringSubmatch(span); {
	case m != nil:
		if !r.targets[m[1]] {
			return "make has no such target"
		}
	case aTest.MatchString(span):
		if !r.tests[span] {
			return "there is no such test"
		}
	case !isPath && aSource.MatchString(span):
		if !r.bases[span] {
			return "there is no such file"
		}
	case isPath && aPath.MatchString(span) && r.paths[first] && !slices.Contains(made, first):
		name := strings.TrimSuffix(path.Clean(span), "/...")
		if !r.matches(name) && !r.matches(path.Join(path.Dir(f.name), name)) {
			return "there is no such file"
		}
	}
	return ""
}

// matches says whether there is a file or folder of that name, which may have wildcards.
func (r tree) matches(name string) bool {
	if r.paths[name] || !strings.Contains(name, "*") {
		return r.paths[name]
	}
	for have := range r.paths {
		if ok, err := path.Match(name, have); ok && err == nil {
			return true
		}
	}
	return false
}
