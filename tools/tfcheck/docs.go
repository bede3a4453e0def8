// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The tables of a README are what is between these lines.
const (
	begin = "<!-- begin: make deploy-docs writes this -->\n"
	end   = "<!-- end -->\n"
)

// checkDocs compares the tables in a module's README.md with its variables and outputs, or writes them.
func checkDocs(dir string, write bool) (complaints []string, err error) {
	m, err := load(dir)
	if err != nil {
		return nil, err
	}
	for _, v := range m.variables {
		if v.description == "" {
			complaints = append(complaints, fmt.Sprintf("%s: variable %s has no description", dir, v.name))
		}
	}
	for _, o := range m.outputs {
		if o.description == "" {
			complaints = append(complaints, fmt.Sprintf("%s: output %s has no description", dir, o.name))
		}
	}
	readme := filepath.Join(dir, "README.md")
	old, err := os.ReadFile(readme)
	if err != nil {
		return nil, err
	}
	before, rest, ok1 := bytes.Cut(old, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%s has no lines %q and %q", readme, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	wanted := slices.Concat(before, []byte(begin), []byte(tables(m)), []byte(end), after)
	switch {
	case bytes.Equal(old, wanted):
		return complaints, nil
	case write:
		return complaints, os.WriteFile(readme, wanted, 0o600) // the file is there, and keeps its mode
	}
	return append(complaints, readme+": its tables are not those of the variables and outputs: make deploy-docs"), nil
}

// tables is Markdown: the variables, the required ones first, and the outputs, if there are any.
func tables(m *module) string {
	var b strings.Builder
	b.WriteString("| variable | type | default | meaning |\n|---|---|---|---|\n")
	for _, required := range []bool{true, false} {
		for _, v := range m.variables {
			if (v.def == "") != required {
				continue
			}
			def := "required"
			if !required {
				def = "`" + v.def + "`"
			}
			fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", v.name, v.typ, cell(def), cell(v.description))
		}
	}
	if len(m.outputs) > 0 {
		b.WriteString("\n| output | meaning |\n|---|---|\n")
		for _, o := range m.outputs {
			fmt.Fprintf(&b, "| `%s` | %s |\n", o.name, cell(o.description))
		}
	}
	return b.String()
}

// cell makes a text fit into one cell of a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}
