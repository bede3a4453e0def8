// SPDX-License-Identifier: MPL-2.0

package deptest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pkg is one package of a graph. Packages of this module are named as the go command names them from its root ("./proxy"); all others
// have their import path.
type pkg struct {
	name        string
	standard    bool     // of the standard library
	imports     []string // direct, of the files that are built into a binary
	testImports []string // direct, of the package's test files, in and beside the package
}

// graph has a package for every import that a build for one platform reaches.
type graph map[string]*pkg

// ours lists the packages of this module, sorted.
func (g graph) ours() []string {
	var paths []string
	for path := range g {
		if strings.HasPrefix(path, "./") || path == "." {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// standard reports whether path is of the standard library. A package outside the graph (only a test imports it) is judged by its first
// element: the go command reserves those without a dot.
func (g graph) standard(path string) bool {
	if p, ok := g[path]; ok {
		return p.standard
	}
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// chain returns the shortest chain of imports from one package to another, both included, or nil if there is none.
func (g graph) chain(from, to string) []string {
	cameFrom := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at == to {
			var chain []string
			for ; at != ""; at = cameFrom[at] {
				chain = append(chain, at)
			}
			slices.Reverse(chain)
			return chain
		}
		if g[at] == nil {
			continue
		}
		for _, next := range g[at].imports {
			if _, seen := cameFrom[next]; !seen {
				cameFrom[next] = at
				queue = append(queue, next)
			}
		}
	}
	return nil
}

// match reports whether path is what pattern names: itself, or with a trailing "/..." itself and everything below it.
func match(pattern, path string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == tree || strings.HasPrefix(path, tree+"/")
	}
	return path == pattern
}

func matchAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return match(pattern, path) })
}

// load reads the graph of the module at root as it is built for goos and goarch without cgo. A package of ours that the go command
// cannot read fails the test: its imports would be unknown.
func load(t testing.TB, root, goos, goarch string) graph {
	t.Helper()
	out := goCommand(t, root, []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch},
		"list", "-e", "-deps", "-json=ImportPath,Name,Standard,Module,Imports,ImportMap,TestImports,XTestImports,Error", "./...")
	g, err := parse(out)
	if err != nil {
		t.Fatalf("%s/%s: %v", goos, goarch, err)
	}
	return g
}

// parse makes a graph of what `go list -deps -json` prints.
func parse(listing []byte) (graph, error) {
	type listed struct {
		ImportPath, Name string
		Standard         bool
		Module           *struct {
			Path string
			Main bool
		}
		Imports, TestImports, XTestImports []string
		ImportMap                          map[string]string
		Error                              *struct{ Err string }
	}
	var all []listed
	module := ""
	for dec := json.NewDecoder(bytes.NewReader(listing)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("reading the go command's list: %w", err)
		}
		if l.Module != nil && l.Module.Main {
			module = l.Module.Path
			if l.Error != nil {
				return nil, fmt.Errorf("the imports of %s are unknown: %s", l.ImportPath, l.Error.Err)
			}
		}
		all = append(all, l)
	}
	if module == "" {
		return nil, errors.New("the go command listed no package of the main module")
	}
	short := func(path string) string {
		if path == module {
			return "."
		}
		if rest, ok := strings.CutPrefix(path, module+"/"); ok {
			return "./" + rest
		}
		return path
	}
	g := make(graph, len(all))
	for _, l := range all {
		p := &pkg{name: l.Name, standard: l.Standard}
		for _, path := range l.Imports {
			if mapped, ok := l.ImportMap[path]; ok {
				path = mapped
			}
			p.imports = append(p.imports, short(path))
		}
		for _, path := range slices.Concat(l.TestImports, l.XTestImports) {
			p.testImports = append(p.testImports, short(path))
		}
		g[short(l.ImportPath)] = p
	}
	return g, nil
}

// moduleRoot is the folder of the go.mod that this package belongs to.
func moduleRoot(t testing.TB) string {
	t.Helper()
	gomod := strings.TrimSpace(string(goCommand(t, ".", nil, "env", "GOMOD")))
	if filepath.Base(gomod) != "go.mod" {
		t.Fatalf("this test needs the module's sources, the go command says GOMOD is %q", gomod)
	}
	root := filepath.Dir(gomod)
	recordSources(t, root)
	return root
}

// recordSources looks at every file that the graph is made of. The go command reuses a test's result while the files that the test
// itself looked at are unchanged, and it does not see what a child process reads.
func recordSources(t testing.TB, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.Name() == "go.mod" || d.Name() == "go.sum" || strings.HasSuffix(path, ".go"):
			// A file that has gone since its folder was read is no longer part of the graph.
			if _, err := os.Stat(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("walking the module: %v", err)
	}
}

// goCommand runs the go command in dir and returns what it prints.
func goCommand(t testing.TB, dir string, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}
