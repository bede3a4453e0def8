// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// module is one folder of Terraform files.
type module struct {
	dir       string
	variables []variable
	outputs   []output
	providers []string                        // that it configures
	bodies    []*hclsyntax.Body               // of its files
	sources   map[string][]byte               // by file name
	locals    map[string]hclsyntax.Expression // expressions, by name
}

// variable is a variable block. def is the source text of its default, or empty if the variable is required; value is that default.
type variable struct {
	name, description, typ, def string
	value                       hclsyntax.Expression
}

type output struct{ name, description string }

// load reads the .tf files of a folder, not those of folders in it.
func load(dir string) (*module, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no .tf files", dir)
	}
	m := &module{dir: dir, sources: map[string][]byte{}, locals: map[string]hclsyntax.Expression{}}
	parser := hclparse.NewParser()
	for _, name := range names {
		file, diags := parser.ParseHCLFile(name)
		if diags.HasErrors() {
			return nil, fmt.Errorf("parsing %s: %w", name, diags)
		}
		m.sources[name] = file.Bytes
		body := file.Body.(*hclsyntax.Body) // the native syntax has no other
		m.bodies = append(m.bodies, body)
		for _, block := range body.Blocks {
			m.add(block, file.Bytes)
		}
	}
	return m, nil
}

func (m *module) add(block *hclsyntax.Block, source []byte) {
	switch block.Type {
	case "variable":
		v := variable{
			name:        block.Labels[0],
			description: text(block.Body.Attributes["description"]),
			typ:         oneLine(sourceOf(block.Body.Attributes["type"], source)),
			def:         oneLine(sourceOf(block.Body.Attributes["default"], source)),
		}
		if def := block.Body.Attributes["default"]; def != nil {
			v.value = def.Expr
		}
		m.variables = append(m.variables, v)
	case "output":
		m.outputs = append(m.outputs, output{block.Labels[0], text(block.Body.Attributes["description"])})
	case "provider":
		m.providers = append(m.providers, block.Labels[0])
	case "locals":
		for name, attribute := range block.Body.Attributes {
			m.locals[name] = attribute.Expr
		}
	}
}

// text is an attribute's value, if that is a constant string.
func text(a *hclsyntax.Attribute) string {
	if a == nil {
		return ""
	}
	return constant(a.Expr)
}

// constant is an expression's value, if that is a constant string, and empty otherwise.
func constant(e hclsyntax.Expression) string {
	if key, ok := e.(*hclsyntax.ObjectConsKeyExpr); ok {
		if word := hcl.ExprAsKeyword(key.Wrapped); word != "" {
			return word
		}
	}
	value, diags := e.Value(nil)
	if diags.HasErrors() || !value.IsKnown() || value.IsNull() || value.Type() != cty.String {
		return ""
	}
	return value.AsString()
}

func sourceOf(a *hclsyntax.Attribute, source []byte) string {
	if a == nil {
		return ""
	}
	return string(a.Expr.Range().SliceBytes(source))
}

var (
	opening = regexp.MustCompile(`([({[])\s*\n\s*`)
	closing = regexp.MustCompile(`\s*\n\s*([)}\]])`)
	between = regexp.MustCompile(`\s*\n\s*`)
	spaces  = regexp.MustCompile(`[ \t]+`)
)

// oneLine writes an expression of several lines on one, with the commas that take the place of line ends.
func oneLine(s string) string {
	s = opening.ReplaceAllString(s, "$1")
	s = closing.ReplaceAllString(s, "$1")
	s = between.ReplaceAllString(s, ", ")
	return strings.TrimSpace(spaces.ReplaceAllString(s, " "))
}

// environment is the names of the object that the local of that name is.
func (m *module) environment() ([]string, error) {
	object, ok := m.locals["environment"].(*hclsyntax.ObjectConsExpr)
	if !ok {
		return nil, fmt.Errorf("%s has no local named environment that is an object", m.dir)
	}
	var names []string
	for _, item := range object.Items {
		names = append(names, constant(item.KeyExpr))
	}
	slices.Sort(names)
	return names, nil
}
