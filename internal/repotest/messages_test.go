// SPDX-License-Identifier: MPL-2.0

package repotest

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Who is woken by a line of the log looks for it in docs/operations.md: each warning and error of the programs has a row there, and no
// row is for a line that is no longer written.
func TestEveryWarningOfTheProgramsIsOnTheOperationsPage(t *testing.T) {
	for _, complaint := range unexplained(files(t)) {
		t.Error(complaint)
	}
}

const operations = "docs/operations.md"

var (
	// shipped are the folders of what writes a program's log.
	shipped = []string{"cmd/consul-lambda-extension", "cmd/consul-lambda-registrator", "proxy", "tlsstate", "lambdaext", "registrator", "internal"}
	// apart are the folders below these of what is not shipped.
	apart = []string{"internal/lab", "internal/soak", "internal/e2e"}

	logged    = regexp.MustCompile(`\.(?:Warn|Error)(?:Context)?\((?:ctx, )?"([^"]+)"`)
	levelled  = regexp.MustCompile(`\.Log\(ctx, level, "([^"]+)"`)
	endsUpAs  = regexp.MustCompile(`(?m)^\s+Cause\w+\s+Cause = "([^"]+)"`)
	explained = regexp.MustCompile("(?m)^\\| `([^`]+)`.* \\| (?:warn|error) \\|")
)

func below(name string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(name, f+"/") })
}

// unexplained compares what is logged, and the causes of resets, with the page.
func unexplained(all []file) []string {
	var complaints []string
	page, written := "", make(map[string]bool)
	for _, f := range all {
		if f.name == operations {
			page = string(f.content)
		}
		if path.Ext(f.name) != ".go" || strings.HasSuffix(f.name, "_test.go") || !below(f.name, shipped) || below(f.name, apart) {
			continue
		}
		for _, pattern := range []*regexp.Regexp{logged, levelled, endsUpAs} {
			for _, m := range pattern.FindAllSubmatch(f.content, -1) {
				written[string(m[1])] = true
			}
		}
	}
	for message := range written {
		if !strings.Contains(page, "`"+message+"`") {
			complaints = append(complaints, fmt.Sprintf("%s does not say what `%s` means", operations, message))
		}
	}
	for _, m := range explained.FindAllStringSubmatch(page, -1) {
		if !written[m[1]] {
			complaints = append(complaints, fmt.Sprintf("%s explains `%s`, which nothing logs", operations, m[1]))
		}
	}
	slices.Sort(complaints)
	return complaints
}

func TestAWarningWithoutARowIsFound(t *testing.T) {
	code := func(name, line string) file { return file{name, []byte("package a\n\n\t" + line + "\n")} }
	for _, tt := range []struct {
		name string
		code file
		page string
		says string // "" for nothing
	}{
		{"a row", code("proxy/a.go", `s.log.Warn("it broke", "error", err)`), "| `it broke` | warn | why |", ""},
		{"no row", code("proxy/a.go", `s.log.Warn("it broke", "error", err)`), "", "does not say what `it broke` means"},
		{"no row for one with a context", code("registrator/a.go", `s.log.ErrorContext(ctx, "it broke")`), "", "it broke"},
		{"no row for one of any level", code("registrator/a.go", `r.log.Log(ctx, level, "it ended")`), "", "it ended"},
		{"no word on a cause", code("proxy/a.go", `CauseIdle           Cause = "idle" // no traffic`), "", "idle"},
		{"a row for nothing", code("proxy/a.go", `s.log.Info("it works")`), "| `it broke` | error | why |", "which nothing logs"},
		{"not a program's", code("internal/lab/a.go", `s.log.Warn("it broke")`), "", ""},
		{"a test's", code("proxy/a_test.go", `s.log.Warn("it broke")`), "", ""},
	} {
		got := strings.Join(unexplained([]file{tt.code, {operations, []byte(tt.page)}}), "\n")
		if tt.says == "" && got != "" || !strings.Contains(got, tt.says) {
			t.Errorf("%s: says %q, want %q", tt.name, got, tt.says)
		}
	}
}
