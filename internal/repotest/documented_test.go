// SPDX-License-Identifier: MPL-2.0

package repotest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A tag or a metric that no page names does not exist for users, and one that only a page names is a lie. Settings are held against the
// pages where they are read (internal/extensionenv, internal/registratorenv).
func TestEachTagAndMetricIsOnItsPageAndInTheCode(t *testing.T) {
	t.Parallel()
	all := files(t)
	for _, complaint := range slices.Concat(wrongTags(all), wrongMetrics(all), otherConsulRules(all)) {
		t.Error(complaint)
	}
}

const (
	configuration = "docs/configuration.md"
	security      = "docs/security.md"
	moduleReadme  = "deploy/terraform/modules/lambda-registrator/README.md"
	tagsHeading   = "## Tags of a function"
)

var (
	// metered are the programs that write metrics.
	metered = []string{"cmd/consul-lambda-extension", "cmd/consul-lambda-registrator"}
	aMetric = regexp.MustCompile(`^[A-Z][A-Za-z]+$`)
)

// text returns one file; "" if it is not there.
func text(all []file, name string) string {
	for _, f := range all {
		if f.name == name {
			return string(f.content)
		}
	}
	return ""
}

// sources parses the Go files of one folder, but its tests.
func sources(all []file, folder string) (parsed []*ast.File, complaints []string) {
	for _, f := range all {
		if path.Dir(f.name) != folder || path.Ext(f.name) != ".go" || strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		p, err := parser.ParseFile(token.NewFileSet(), f.name, f.content, parser.SkipObjectResolution)
		if err != nil {
			complaints = append(complaints, err.Error())
			continue
		}
		parsed = append(parsed, p)
	}
	return parsed, complaints
}

// constants returns the expressions of the constants of a package, by name.
func constants(parsed []*ast.File) map[string]ast.Expr {
	found := make(map[string]ast.Expr)
	for _, f := range parsed {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				if v, ok := s.(*ast.ValueSpec); ok && len(v.Values) == len(v.Names) {
					for i, name := range v.Names {
						found[name.Name] = v.Values[i]
					}
				}
			}
		}
	}
	return found
}

// literal is the value of a string literal; "" of anything else.
func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		if s, err := strconv.Unquote(l.Value); err == nil {
			return s
		}
	}
	return ""
}

// section is the part of a page from a line that begins with one of these words to the next heading.
func section(page, begin string) string {
	_, after, ok := strings.Cut("\n"+page, "\n"+begin)
	if !ok {
		return ""
	}
	part, _, _ := strings.Cut(after, "\n## ")
	return part
}

// firstCells are the code spans in the first column of the tables in a text.
func firstCells(text string) map[string]bool {
	found := make(map[string]bool)
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > 2 && strings.HasPrefix(line, "|") {
			for _, m := range codeSpan.FindAllStringSubmatch(cells[1], -1) {
				found[m[1]] = true
			}
		}
	}
	return found
}

// compare complains of what is in one of two sets only.
func compare(kind, page string, code, documented map[string]bool) (complaints []string) {
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if !documented[name] {
			complaints = append(complaints, fmt.Sprintf("%s has no row for the %s %s", page, kind, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if !code[name] {
			complaints = append(complaints, fmt.Sprintf("%s has the %s %s, which the code does not know", page, kind, name))
		}
	}
	return complaints
}

// wrongTags compares the constants TagPrefix + "name" of package registrator with the table of tags.
func wrongTags(all []file) (complaints []string) {
	parsed, complaints := sources(all, "registrator")
	code, prefix := make(map[string]bool), ""
	for name, value := range constants(parsed) {
		if name == "TagPrefix" {
			prefix = literal(value)
		}
		if sum, ok := value.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
			if x, ok := sum.X.(*ast.Ident); ok && x.Name == "TagPrefix" {
				code[literal(sum.Y)] = true
			}
		}
	}
	part := section(text(all, configuration), tagsHeading)
	if prefix == "" || !strings.Contains(part, "`"+prefix+"`") {
		complaints = append(complaints, fmt.Sprintf("%s does not say under %q that tags begin with %q", configuration, tagsHeading, prefix))
	}
	return append(complaints, compare("tag", configuration, code, firstCells(part))...)
}

// wrongMetrics compares the metrics of each program with what the page has from the program's namespace on: a table, or a sentence.
func wrongMetrics(all []file) (complaints []string) {
	for _, folder := range metered {
		parsed, unread := sources(all, folder)
		complaints = append(complaints, unread...)
		namespace := literal(constants(parsed)["metricsNamespace"])
		if namespace == "" {
			complaints = append(complaints, folder+" has no constant metricsNamespace")
			continue
		}
		part, _, _ := strings.Cut(section(text(all, operations), "`"+namespace+"`"), "\n`ConsulLambda/")
		documented := firstCells(part)
		if len(documented) == 0 {
			for _, m := range codeSpan.FindAllStringSubmatch(part, -1) {
				documented[m[1]] = aMetric.MatchString(m[1])
			}
			maps.DeleteFunc(documented, func(_ string, isMetric bool) bool { return !isMetric })
		}
		code := metricNames(parsed)
		if code[""] { // a name that is made of a cause
			delete(code, "")
			byCause := resetMetrics(all)
			named := 0
			for name := range documented {
				if byCause[name] {
					delete(documented, name)
					named++
				}
			}
			if named == 0 {
				complaints = append(complaints, fmt.Sprintf("%s has no row for the resets by cause of %s", operations, namespace))
			}
		}
		complaints = append(complaints, compare("metric", operations, code, documented)...)
	}
	return complaints
}

// metricNames are the names of the metrics that a package makes: of values with the fields Name and Values, and in calls of functions,
// literals too, that return an emf.Metric and take its name first. "" stands for names that are not literals.
func metricNames(parsed []*ast.File) map[string]bool {
	found, makers := make(map[string]bool), make(map[string]bool)
	each := func(visit func(ast.Node)) {
		for _, f := range parsed {
			ast.Inspect(f, func(n ast.Node) bool { visit(n); return true })
		}
	}
	each(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.AssignStmt:
			f, ok := n.Rhs[0].(*ast.FuncLit)
			if name, named := n.Lhs[0].(*ast.Ident); ok && named && makesMetric(f.Type) {
				makers[name.Name] = true
			}
		case *ast.FuncDecl:
			if makesMetric(n.Type) {
				makers[n.Name.Name] = true
			}
		}
	})
	each(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && makers[f.Name] {
				found[literal(n.Args[0])] = true
			}
		case *ast.CompositeLit:
			fields := make(map[string]ast.Expr)
			for _, e := range n.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					if key, ok := kv.Key.(*ast.Ident); ok {
						fields[key.Name] = kv.Value
					}
				}
			}
			if fields["Name"] == nil || fields["Values"] == nil {
				return
			}
			if _, passedOn := fields["Name"].(*ast.Ident); !passedOn { // else the parameter of a maker
				found[literal(fields["Name"])] = true
			}
		}
	})
	return found
}

func makesMetric(f *ast.FuncType) bool {
	if f.Results == nil || len(f.Results.List) != 1 {
		return false
	}
	result, ok := f.Results.List[0].Type.(*ast.SelectorExpr)
	return ok && result.Sel.Name == "Metric"
}

// resetMetrics are the metrics named after the causes of package proxy: ResetsHalfClosed.
func resetMetrics(all []file) map[string]bool {
	found := make(map[string]bool)
	for _, f := range all {
		if path.Dir(f.name) != "proxy" || strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		for _, m := range endsUpAs.FindAllSubmatch(f.content, -1) {
			name := "Resets"
			for word := range strings.SplitSeq(string(m[1]), "-") {
				name += strings.ToUpper(word[:1]) + word[1:]
			}
			found[name] = true
		}
	}
	return found
}

var aRule = regexp.MustCompile("(?ms)^ *```hcl\n( *node \"lambdas\".*?)^ *```$")

// otherConsulRules compares the ACL rules that the module's page quotes with those of the security page, of which a test of internal/e2e
// shows that they are enough, and each of them needed.
func otherConsulRules(all []file) []string {
	rules := func(page string) string {
		m := aRule.FindStringSubmatch(text(all, page))
		if m == nil {
			return ""
		}
		var lines []string
		for line := range strings.Lines(m[1]) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "\n")
	}
	want, have := rules(security), rules(moduleReadme)
	if want == "" || have != want {
		return []string{fmt.Sprintf("%s has the rules\n%s\nfor the registrator's token, and %s has\n%s", moduleReadme, have, security, want)}
	}
	return nil
}

func TestATagOrAMetricWithoutARowIsFound(t *testing.T) {
	t.Parallel()
	const (
		tags = "package registrator\nconst (\n\tTagPrefix = \"p/\"\n\tTagA = TagPrefix + \"a\"\n)\n"
		aTag = "## Tags of a function\n\nEach begins with `p/`.\n\n| tag | default |\n|---|---|\n| `a` | `b` |\n"

		metrics = `package main
const metricsNamespace = "ConsulLambda/Extension"
func f() {
	one := func(name string) emf.Metric { return emf.Metric{Name: name, Values: nil} }
	list := []emf.Metric{one("Sent"), {Name: "Seconds", Values: nil}}
	list = append(list, one(resetsBy(cause)))
	_ = emf.Dimension{Name: "FunctionName", Value: ""}
}
`
		run      = "package main\nconst metricsNamespace = \"ConsulLambda/Registrator\"\nfunc count(name string) emf.Metric { return f }\nvar _ = count(\"Runs\")\n"
		ends     = "package proxy\nconst (\n\tCauseHalfClosed Cause = \"half-closed\"\n)\n"
		rows     = "## Metrics\n\n`ConsulLambda/Extension`:\n\n| metric |\n|---|\n| `Sent`, `Seconds` | above `Else` |\n| `ResetsHalfClosed`, … | |\n\n"
		sentence = "`ConsulLambda/Registrator`, for each: `Runs` (`{}` too).\n\n## More\n\n`Elsewhere`\n"
		rule     = "```hcl\nnode \"lambdas\" {\n  policy = \"write\"\n}\n```\n"
	)
	right := map[string]string{
		"registrator/x.go": tags, configuration: aTag,
		"cmd/consul-lambda-extension/m.go": metrics, "cmd/consul-lambda-registrator/m.go": run, "proxy/e.go": ends, operations: rows + sentence,
		security: rule, moduleReadme: "- x\n\n  " + strings.ReplaceAll(rule, "\n", "\n  ") + "\n",
	}
	for _, tt := range []struct {
		name, in, from, to string
		says               string // "" for nothing
	}{
		{"all is as it should be", operations, "## More", "## Much more", ""},
		{"a tag without a row", "registrator/x.go", "TagA = ", "TagB = TagPrefix + \"b\"\n\tTagA = ", "no row for the tag b"},
		{"a row without a tag", configuration, "| `a` |", "| `a`, `c` |", "the tag c, which"},
		{"another prefix", "registrator/x.go", `"p/"`, `"q/"`, `begin with "q/"`},
		{"a metric without a row", "cmd/consul-lambda-extension/m.go", `one("Sent")`, `one("Sent"), one("Lost")`, "no row for the metric Lost"},
		{"a measured one without a row", "cmd/consul-lambda-extension/m.go", `Name: "Seconds"`, `Name: "Hours"`, "no row for the metric Hours"},
		{"a row without a metric", operations, "`Seconds` |", "`Seconds`, `Gone` |", "the metric Gone, which"},
		{"a metric of a run in no sentence", "cmd/consul-lambda-registrator/m.go", "(\"Runs\")", "(\"Runs\"), count(\"Walks\")", "no row for the metric Walks"},
		{"a word without a metric of a run", operations, "`Runs`", "`Runs`, `Ruins`", "the metric Ruins, which"},
		{"a cause that is gone", "proxy/e.go", "half-closed", "half-open", "the metric ResetsHalfClosed, which"},
		{"a program without a namespace", "cmd/consul-lambda-registrator/m.go", "metricsNamespace", "namespace", "has no constant metricsNamespace"},
		{"a rule of Consul that is missing", moduleReadme, "policy = \"write\"", "policy = \"read\"", "for the registrator's token"},
	} {
		var all []file
		for name, content := range right {
			if name == tt.in {
				changed := strings.Replace(content, tt.from, tt.to, 1)
				if changed == content {
					t.Fatalf("%s: %s has no %q", tt.name, name, tt.from)
				}
				content = changed
			}
			all = append(all, file{name, []byte(content)})
		}
		got := strings.Join(slices.Concat(wrongTags(all), wrongMetrics(all), otherConsulRules(all)), "\n")
		if tt.says == "" && got != "" || !strings.Contains(got, tt.says) {
			t.Errorf("%s: says %q, want %q", tt.name, got, tt.says)
		}
	}
}
