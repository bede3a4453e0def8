// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// services is how IAM calls what the SDK's packages call.
var services = map[string]string{
	"github.com/aws/aws-sdk-go-v2/service/lambda":                   "lambda",
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi": "tag",
	"github.com/aws/aws-sdk-go-v2/service/ssm":                      "ssm",
	"github.com/aws/aws-sdk-go-v2/service/sts":                      "sts",
}

const sdkServices = "github.com/aws/aws-sdk-go-v2/service/"

// program parses the files, but tests, that a package of the repository and those of the repository that it imports, directly or not,
// are built from on Linux. The keys are paths from the root.
func program(ctx context.Context, repo, pkg string) (map[string]*ast.File, error) {
	repo, err := filepath.Abs(repo)
	if err != nil {
		return nil, err
	}
	const names = `{{$dir := .Dir}}{{with .Module}}{{if .Main}}{{range $.GoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`
	list := exec.CommandContext(ctx, "go", "list", "-deps", "-f", names, "./"+pkg)
	list.Dir = repo
	list.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("listing what %s is built from: %w: %s", pkg, err, bytes.TrimSpace(stderr.Bytes()))
	}
	files := map[string]*ast.File{}
	for name := range strings.Lines(string(out)) {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		rel, err := filepath.Rel(repo, name)
		if err != nil {
			return nil, err
		}
		if files[filepath.ToSlash(rel)], err = parse(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func parse(name string) (*ast.File, error) {
	return parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
}

// paramstore is the package through whose methods all others call Parameter Store, and which calls a method makes.
const paramstore = "internal/paramstore"

var through = map[string][]string{
	"Reader":   {"ssm:GetParameter"},
	"Writer":   {"ssm:PutParameter", "ssm:DeleteParameter"},
	"Describe": {"ssm:DescribeParameters"},
}

// stored is the calls that Go files make through a Store of paramstore. They are known by the methods' names, so that only files of a
// package that imports it are for this.
func stored(files iter.Seq[*ast.File]) (actions []string) {
	found := map[string]bool{}
	for file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
				for _, action := range through[selector.Sel.Name] {
					found[action] = true
				}
			}
			return true
		})
	}
	return sorted(found)
}

// imports says whether a file imports a package of the repository.
func imports(file *ast.File, pkg string) bool {
	return slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool {
		path, err := strconv.Unquote(spec.Path.Value)
		return err == nil && strings.HasSuffix(path, "/"+pkg)
	})
}

// calls is the AWS calls in Go files, as IAM names them. No call of the SDK is made without its input: each ssm.GetParameterInput, or
// lambda.NewListFunctionsPaginator, is one.
func calls(files iter.Seq[*ast.File]) (actions []string, complaints []string) {
	found := map[string]bool{}
	for file := range files {
		imported := map[string]string{} // IAM's name, by the file's name of the package
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil || !strings.HasPrefix(path, sdkServices) || strings.HasSuffix(path, "/types") {
				continue
			}
			service, ok := services[path]
			if !ok {
				complaints = append(complaints, fmt.Sprintf("%s is used, and tfcheck does not know what IAM calls it", path))
				continue
			}
			name := path[strings.LastIndexByte(path, '/')+1:]
			if spec.Name != nil {
				name = spec.Name.Name
			}
			imported[name] = service
		}
		ast.Inspect(file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := selector.X.(*ast.Ident)
			if !ok || imported[pkg.Name] == "" {
				return true
			}
			name := selector.Sel.Name
			operation, isInput := strings.CutSuffix(name, "Input")
			if !isInput {
				operation, isInput = strings.CutSuffix(name, "Paginator")
				operation = strings.TrimPrefix(operation, "New")
			}
			if isInput {
				found[imported[pkg.Name]+":"+operation] = true
			}
			return true
		})
	}
	return sorted(found), complaints
}

// variableName is the name of an environment variable of ours or of Consul's client. The words are the predecessor's; what is new
// begins with CONSUL_, because the function has variables of its own.
var variableName = regexp.MustCompile(
	`^(?:CONSUL(?:_[A-Z0-9]+)+|LOG_LEVEL|TRACE_ENABLED|NODE_NAME|PAGE_SIZE|DATACENTER|ENTERPRISE|PARTITIONS)$`)

// environmentNames is the environment variables that Go files name: whole literals, or sums of literals.
func environmentNames(files iter.Seq[*ast.File]) []string {
	found := map[string]bool{}
	for file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			expr, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			s, ok := constantString(expr)
			if !ok {
				return true
			}
			if variableName.MatchString(s) {
				found[s] = true
			}
			return false // a part of a sum is not looked at by itself
		})
	}
	return sorted(found)
}

// constantString is the value of a literal, or of a sum of literals.
func constantString(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		x, ok1 := constantString(e.X)
		y, ok2 := constantString(e.Y)
		return x + y, ok1 && ok2 && e.Op == token.ADD
	}
	return "", false
}

// consulClientNames is the variables that Consul's own client reads, of the version that the repository requires.
func consulClientNames(ctx context.Context, repo string) ([]string, error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/hashicorp/consul/api")
	list.Dir = repo
	list.Stderr = os.Stderr
	dir, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("asking for the source of consul/api: %w", err)
	}
	file, err := parse(filepath.Join(strings.TrimSpace(string(dir)), "api.go"))
	if err != nil {
		return nil, err
	}
	return environmentNames(slices.Values([]*ast.File{file})), nil
}

func sorted(set map[string]bool) []string {
	var all []string
	for name, in := range set {
		if in {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}
