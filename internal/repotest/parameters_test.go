// SPDX-License-Identifier: MPL-2.0

package repotest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fewParameters are the packages in which more than three parameters are a struct: those that the extension's data plane is made of.
var fewParameters = []string{"mesh", "tlsstate", "proxy", "lambdaext", "internal/bufpool", "internal/clock", "internal/emf", "internal/extensionenv",
	"internal/logs", "cmd/consul-lambda-extension"}

// A call with four arguments in a row is read wrong sooner or later, most of all when two have the same type. A context does not
// count: it comes first everywhere.
func TestMoreThanThreeParametersAreAStruct(t *testing.T) {
	t.Parallel()
	for _, dir := range fewParameters {
		files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no Go files: %v", dir, err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			complaints, err := longLists(path, source)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range complaints {
				t.Error(c)
			}
		}
	}
}

// The rule sees what breaks it, and nothing else.
func TestTheRuleCountsParametersNotContexts(t *testing.T) {
	t.Parallel()
	for declaration, wrong := range map[string]bool{
		"func f(a, b, c int)":                                        false,
		"func f(ctx context.Context, a int, b, c string)":            false,
		"func (t T) f(a, b, c int)":                                  false,
		"func f(int, int, int, int)":                                 true,
		"func f(a, b, c, d int)":                                     true,
		"func f(ctx context.Context, a int, b, c string, d ...bool)": true,
		"func (t *T) f(a int, b, c string, d func(a, b int))":        true,
	} {
		complaints, err := longLists("f.go", []byte("package p\n"+declaration+" {}\n"))
		if err != nil {
			t.Fatalf("%s: %v", declaration, err)
		}
		if (len(complaints) > 0) != wrong {
			t.Errorf("%s: %q", declaration, complaints)
		}
	}
}

// longLists returns a line for each function with more than three parameters.
func longLists(path string, source []byte) (complaints []string, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := parameters(f.Type.Params.List); n > 3 {
			complaints = append(complaints, fmt.Sprintf("%s: %s has %d parameters: a struct can name them", files.Position(f.Pos()), f.Name.Name, n))
		}
	}
	return complaints, nil
}

func parameters(fields []*ast.Field) (n int) {
	fields = slices.DeleteFunc(slices.Clone(fields), func(f *ast.Field) bool {
		s, ok := f.Type.(*ast.SelectorExpr)
		return ok && s.Sel.Name == "Context"
	})
	for _, f := range fields {
		n += max(1, len(f.Names)) // one without a name is one
	}
	return n
}
