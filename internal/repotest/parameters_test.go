// SPDX-License-Identifier: MPL-2.0

package repotest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// manyParameters are the functions in which more than three parameters are not a struct, by folder.
var manyParameters = map[string][]string{
	"bench": {"add", "latencies", "line", "text", // the cells of a table, the coordinates of a drawing
		"bulkRow", "connectRow", "charge", "start"},
	"cmd/consul-lambda":            {"liveLab", "run"},
	"internal/doctor":              {"result"}, // the last two are those of Printf
	"internal/environ":             {"Word"},   // as the settings beside it, and one more
	"internal/environ/environtest": {"Complete"},
	"internal/lab":                 {"build"}, // the last ones are go build's
	"internal/lab/consulsim":       {"mayAccess"},
	"internal/lab/controlsim":      {"point"},
	"tools/xds/xdsdump":            {"run"}, // what the os package has of a program
}

// A call with four arguments in a row is read wrong sooner or later, most of all when two have the same type. A context does not
// count: it comes first everywhere.
func TestMoreThanThreeParametersAreAStruct(t *testing.T) {
	t.Parallel()
	for _, complaint := range manyComplaints(files(t), manyParameters) {
		t.Error(complaint)
	}
}

// manyComplaints returns a line for each function with more than three parameters that is not excepted, and for each exception that
// there is no such function for.
func manyComplaints(all []file, excepted map[string][]string) (complaints []string) {
	needed := make(map[string]bool)
	for _, f := range all {
		if path.Ext(f.name) != ".go" || strings.HasSuffix(f.name, "_test.go") || isTestdata(f.name) {
			continue
		}
		long, err := longLists(f)
		if err != nil {
			complaints = append(complaints, err.Error())
		}
		for _, l := range long {
			folder := path.Dir(f.name)
			needed[folder+" "+l.name] = true
			if !slices.Contains(excepted[folder], l.name) {
				complaints = append(complaints, fmt.Sprintf("%s: %s has %d parameters: a struct can name them", l.at, l.name, l.parameters))
			}
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(excepted)) {
		for _, name := range excepted[folder] {
			if !needed[folder+" "+name] {
				complaints = append(complaints, fmt.Sprintf("no %s of %s has more than three parameters: it need not be excepted", name, folder))
			}
		}
	}
	return complaints
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
		source := []byte("package p\n" + declaration + " {}\n")
		if complaints := manyComplaints([]file{{"p/f.go", source}}, nil); (len(complaints) > 0) != wrong {
			t.Errorf("%s: %q", declaration, complaints)
		}
		// An exception is for one function of one folder, and must be about one.
		excepted := map[string][]string{"p": {"f"}}
		if complaints := manyComplaints([]file{{"p/f.go", source}}, excepted); (len(complaints) > 0) == wrong {
			t.Errorf("%s, excepted: %q", declaration, complaints)
		}
		if complaints := manyComplaints([]file{{"p/q/f.go", source}}, excepted); len(complaints) == 0 {
			t.Errorf("%s: an exception for another folder is taken for it", declaration)
		}
	}
}

// longList is a function with more than three parameters.
type longList struct {
	at         token.Position
	name       string
	parameters int
}

func longLists(f file) (long []longList, err error) {
	positions := token.NewFileSet()
	parsed, err := parser.ParseFile(positions, f.name, f.content, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := parameters(f.Type.Params.List); n > 3 {
			long = append(long, longList{positions.Position(f.Pos()), f.Name.Name, n})
		}
	}
	return long, nil
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
