// SPDX-License-Identifier: MPL-2.0

package repotest

import (
	"strings"
	"testing"
)

const license = "// SPDX-License-Identifier: MPL-2.0\n\n"

func TestEveryRuleCatchesItsSeededViolation(t *testing.T) {
	body := strings.Repeat("QUJD", 16)
	tests := []struct {
		rule, name, content string
		caught              bool
	}{
		{"a Go file starts with the license line", "a.go", "package a\n", true},
		{"a Go file starts with the license line", "a.go", "\n" + license + "package a\n", true},
		{"a Go file starts with the license line", "a.go", strings.TrimSuffix(license, "\n") + "package a\n", true},
		{"a Go file starts with the license line", "a.go", license + "package a\n", false},
		{"a Go file starts with the license line", "a.sh", "echo\n", false},

		{"nothing is left to do", "a.go", "// TO" + "DO: later\n", true},
		{"nothing is left to do", "a.tf", "# FIX" + "ME\n", true},
		{"nothing is left to do", "a.go", "ctx := context.TO" + "DO()\n", true},
		{"nothing is left to do", "a.md", "mktemp -t a.XXXXXX, todos\n", false},

		{"no path of a machine", "a.md", "see /wo" + "rk/main\n", true},
		{"no path of a machine", "a.md", "(/ro" + "ot/go)\n", true},
		{"no path of a machine", "a.md", "/ho" + "me/ann/src\n", true},
		{"no path of a machine", "a.md", "/tm" + "p/tmp.AbC/log\n", true},
		{"no path of a machine", "a.md", "https://example.com/wo" + "rk/main, a/wo" + "rk/b, /opt/extensions, /tmp/consul.sock\n", false},

		{"no host of a package registry", "Makefile", "GOPROXY=https://pro" + "xy.golang.org\n", true},
		{"no host of a package registry", "a.md", "golang.org/x/sys and go.dev\n", false},

		{"no private key", "a_test.go", "`-----BE" + "GIN EC PRIV" + "ATE KEY-----`", true},
		{"no private key", "testdata/fuzz/FuzzA/1", `[]byte("-----BE` + `GIN PRIV` + `ATE KEY-----\n")`, true},
		{"no private key", "a.go", `&pem.Block{Type: "PRIV` + `ATE KEY"}`, false},

		{"no certificate", "a_test.go", "-----BE" + "GIN CERTIFICATE-----\n" + body, true},
		{"no certificate", "a.json", `"-----BE` + `GIN CERTIFICATE-----\n` + body, true},
		{"no certificate", "a_test.go", "-----BE" + "GIN CERTIFICATE-----\nnot base64 at all", false},

		{"an action is pinned by its commit", ".github/workflows/a.yml", "      - uses: actions/checkout@v6\n", true},
		{"an action is pinned by its commit", ".github/workflows/a.yml", "        uses: a/b@0123456789012345678901234567890123456789\n", true},
		{"an action is pinned by its commit", ".github/workflows/a.yml", "- uses: a/b@0123456789012345678901234567890123456789 # v1.2.3\n", false},
		{"an action is pinned by its commit", "docs/a.md", "- uses: actions/checkout@v6\n", false},

		{"no file of keys or certificates", "docs/ca.PEM", "", true},
		{"no file of keys or certificates", "docs/ca.md", "", false},
	}
	seeded := map[string]bool{}
	for _, tt := range tests {
		seeded[tt.rule] = seeded[tt.rule] || tt.caught
		found := false
		for _, r := range rules {
			if r.name != tt.rule {
				continue
			}
			found = true
			if got := r.check(file{tt.name, []byte(tt.content)}); (len(got) > 0) != tt.caught {
				t.Errorf("%s, %s: complaints %q about %q, want some: %v", tt.rule, tt.name, got, tt.content, tt.caught)
			}
		}
		if !found {
			t.Errorf("there is no rule %q", tt.rule)
		}
	}
	for _, r := range rules {
		if !seeded[r.name] {
			t.Errorf("%s: no seeded violation shows that it catches anything", r.name)
		}
	}
}

func TestAComplaintNamesTheLine(t *testing.T) {
	for _, r := range rules {
		if r.name != "nothing is left to do" {
			continue
		}
		got := r.check(file{"a.go", []byte("one\ntwo\n// TO" + "DO\n")})
		if len(got) != 1 || !strings.Contains(got[0], "line 3") {
			t.Errorf("complaints are %q, want one about line 3", got)
		}
	}
}

func TestAPackageWithoutADocCommentIsFound(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []file
		says  string // empty: nothing
	}{
		{"documented in one of two files", []file{
			{"a/doc.go", []byte(license + "// Package a is.\npackage a\n")},
			{"a/a.go", []byte(license + "package a\n")},
		}, ""},
		{"not documented", []file{{"a/a.go", []byte(license + "package a\n")}}, "a: no package comment"},
		{"documented by the license line only", []file{{"a/a.go", []byte("// SPDX-License-Identifier: MPL-2.0\npackage a\n")}}, "does not start"},
		{"an unfinished start", []file{{"a/a.go", []byte(license + "// Stuff for a.\npackage a\n")}}, `does not start with "Package a "`},
		{"a command", []file{{"cmd/run/main.go", []byte(license + "// Command run runs.\npackage main\n")}}, ""},
		{"a command whose name starts the sentence", []file{{"cmd/run/main.go", []byte(license + "// Run runs.\npackage main\n")}}, ""},
		{"a command that calls itself a package", []file{{"cmd/run/main.go", []byte(license + "// Package main runs.\npackage main\n")}}, "no package comment"},
		{"only tests", []file{{"bench/a_test.go", []byte(license + "// Package bench measures.\npackage bench\n")}}, ""},
		{"only undocumented tests", []file{{"bench/a_test.go", []byte(license + "package bench_test\n")}}, "bench: no package comment"},
		{"documented outside its external tests", []file{
			{"a/a.go", []byte(license + "// Package a is.\npackage a\n")},
			{"a/a_test.go", []byte(license + "package a_test\n")},
		}, ""},
		{"sources that are test data", []file{{"a/testdata/b/b.go", []byte("package b\n")}}, ""},
		{"a file that does not parse", []file{{"a/a.go", []byte("pakage a\n")}}, "a/a.go"},
	} {
		got := strings.Join(undocumented(tt.files), "\n")
		if tt.says == "" && got != "" || !strings.Contains(got, tt.says) {
			t.Errorf("%s: says %q, want %q", tt.name, got, tt.says)
		}
	}
}
