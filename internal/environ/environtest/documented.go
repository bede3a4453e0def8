// SPDX-License-Identifier: MPL-2.0

// Package environtest holds documentation against the settings that it describes.
package environtest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// row is a line of a table whose first column is one variable or more, and whose second is a default.
var row = regexp.MustCompile("^\\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \\| ([^|]*) \\|")

// Section returns the variables in the tables of one section of a Markdown file, with their defaults: "" where the table says
// "empty", "required" or a phrase. The section ends with the next heading of the same rank.
func Section(tb testing.TB, file, heading string) map[string]string {
	tb.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		tb.Fatalf("%s has no section %q", file, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	defaults := make(map[string]string)
	for line := range strings.Lines(section) {
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		value := ""
		if code := strings.Trim(m[2], "`"); len(code) == len(m[2])-2 {
			value = code
		}
		for name := range strings.SplitSeq(m[1], ", ") {
			defaults[strings.Trim(name, "`")] = value
		}
	}
	return defaults
}

// Complete demands that the documented variables are those that are read, but for some that are set by others.
func Complete(tb testing.TB, documented map[string]string, read []string, others ...string) {
	tb.Helper()
	for _, name := range read {
		if _, ok := documented[name]; !ok && !slices.Contains(others, name) {
			tb.Errorf("%s is read, and not documented", name)
		}
	}
	for name := range documented {
		if !slices.Contains(read, name) {
			tb.Errorf("%s is documented, and never read", name)
		}
	}
}
