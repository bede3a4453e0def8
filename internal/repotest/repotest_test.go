// SPDX-License-Identifier: MPL-2.0

package repotest

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the repository, from this folder.
const root = "../.."

// files reads the repository: everything but git's own folder and what make and terraform leave behind (see .gitignore).
func files(t testing.TB) []file {
	t.Helper()
	leftBehind := []string{".git", "bin", "dist"}
	var all []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(root, name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since its folder was read
			return nil
		case err != nil:
			return err
		case relErr != nil:
			return relErr
		case d.IsDir() && (slices.Contains(leftBehind, rel) || d.Name() == ".terraform"):
			return filepath.SkipDir
		case !d.Type().IsRegular() || slices.Contains([]string{".test", ".prof", ".out", ".tfstate"}, path.Ext(name)):
			return nil
		}
		content, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		all = append(all, file{filepath.ToSlash(rel), content})
		return nil
	})
	if err != nil {
		t.Fatalf("reading the repository: %v", err)
	}
	if !slices.ContainsFunc(all, func(f file) bool { return f.name == "go.mod" }) {
		t.Fatal("no go.mod where the repository's root should be")
	}
	return all
}

func TestEveryFileKeepsTheRules(t *testing.T) {
	all := files(t)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, f := range all {
				for _, complaint := range r.check(f) {
					t.Errorf("%s %s: %s", f.name, complaint, r.reason)
				}
			}
		})
	}
}

// STYLE: one paragraph says what a package is and what it is not.
func TestEveryPackageHasADocComment(t *testing.T) {
	for _, complaint := range undocumented(files(t)) {
		t.Error(complaint)
	}
}

// undocumented names the packages without a doc comment that starts as the go command shows it. A package that is only tests may have it
// in a test file.
func undocumented(all []file) []string {
	documented := map[string]bool{} // by folder
	var complaints []string
	for _, f := range all {
		if path.Ext(f.name) != ".go" || slices.Contains(strings.Split(f.name, "/"), "testdata") {
			continue
		}
		ast, err := parser.ParseFile(token.NewFileSet(), f.name, f.content, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			complaints = append(complaints, err.Error())
			continue
		}
		dir, name := path.Dir(f.name), ast.Name.Name
		want, orElse := "Package "+name+" ", ""
		if name == "main" { // go.dev/doc/comment#cmd: the command's name starts the sentence, with a capital
			command := path.Base(dir)
			want, orElse = "Command "+command+" ", strings.ToUpper(command[:1])+command[1:]+" "
		}
		switch doc := ast.Doc.Text(); {
		case strings.HasPrefix(doc, want), orElse != "" && strings.HasPrefix(doc, orElse):
			documented[dir] = true
		case doc != "" && !strings.HasPrefix(doc, "Package "+strings.TrimSuffix(name, "_test")+" "):
			complaints = append(complaints, fmt.Sprintf("%s: the package comment does not start with %q", f.name, want))
		default:
			documented[dir] = documented[dir] || false
		}
	}
	for dir, ok := range documented {
		if !ok {
			complaints = append(complaints, dir+": no package comment says what it is")
		}
	}
	slices.Sort(complaints)
	return complaints
}
