// SPDX-License-Identifier: MPL-2.0

package deptest

import (
	"strings"
	"testing"
)

// world is a small graph in which every rule has something to judge and none is broken.
func world() graph {
	g := graph{}
	add := func(name, path string, imports ...string) {
		g[path] = &pkg{name: name, imports: imports}
		for _, dep := range imports {
			if first, _, _ := strings.Cut(dep, "/"); g[dep] == nil && first != "." {
				g[dep] = &pkg{standard: !strings.Contains(first, ".")}
			}
		}
	}
	add("clock", "./internal/clock", "time", "golang.org/x/sys/unix")
	add("bufpool", "./internal/bufpool", "sync")
	add("sock", "./internal/sock", "net", "golang.org/x/sys/unix")
	add("mesh", "./mesh", "strings", "crypto/x509")
	add("proxy", "./proxy", "net", "golang.org/x/sys/unix", "github.com/valyala/bytebufferpool", "./internal/clock", "./internal/sock", "./proxy/relay")
	add("relay", "./proxy/relay", "io")
	add("lambdaext", "./lambdaext", "net/http")
	add("tlsstate", "./tlsstate", "crypto/tls", "golang.org/x/sys/unix", "./mesh", "./internal/clock", "./internal/bufpool", "./internal/sock")
	add("registrator", "./registrator", "./mesh", "golang.org/x/time/rate")
	add("paramstore", "./internal/paramstore", "github.com/aws/aws-sdk-go-v2/service/ssm", "github.com/aws/smithy-go")
	add("lambdaapi", "./internal/lambdaapi", "github.com/aws/aws-sdk-go-v2/service/lambda")
	add("consulapi", "./internal/consulapi", "github.com/hashicorp/consul/api")
	add("certtest", "./internal/certtest", "testing", "crypto/x509")
	add("lab", "./internal/lab", "./internal/certtest", "./mesh")
	add("bench", "./bench", "./internal/lab")
	add("main", "./cmd/consul-lambda-extension", "./proxy", "./tlsstate", "./lambdaext", "./internal/paramstore",
		"github.com/aws/aws-sdk-go-v2/credentials")
	add("main", "./cmd/consul-lambda-registrator", "./registrator", "./internal/paramstore", "./internal/lambdaapi", "./internal/consulapi",
		"github.com/aws/aws-lambda-go/lambda", "github.com/aws/aws-sdk-go-v2/config")
	add("main", "./cmd/consul-lambda", "./internal/lab", "./bench")
	g["./proxy"].testImports = []string{"./internal/lab", "testing", "go.uber.org/goleak"}
	return g
}

func TestAWorldThatFollowsTheDesignPasses(t *testing.T) {
	g := world()
	for _, r := range rules {
		violations, judged := r.check(g)
		if len(violations) > 0 {
			t.Errorf("%s: %s", r.name, strings.Join(violations, "; "))
		}
		if judged == 0 {
			t.Errorf("%s: nothing in the world is judged by it", r.name)
		}
	}
}

func TestARuleAboutAbsentPackagesJudgesNothing(t *testing.T) {
	for _, r := range rules {
		if violations, judged := r.check(graph{}); judged != 0 || violations != nil {
			t.Errorf("%s: judged %d, violations %q in an empty graph", r.name, judged, violations)
		}
	}
}

func TestEveryRuleCatchesItsSeededViolation(t *testing.T) {
	imports := func(from, to string) func(graph) {
		return func(g graph) {
			if g[from] == nil {
				g[from] = &pkg{}
			}
			if g[to] == nil {
				g[to] = &pkg{standard: g.standard(to)}
			}
			g[from].imports = append(g[from].imports, to)
		}
	}
	tests := []struct {
		rule string
		seed func(graph)
		says string // in a violation
	}{
		{"every package has a place in the layout", imports("./util", "strings"), "./util"},
		{"every package has a place in the layout", imports("./proxy2", "strings"), "./proxy2"},
		{"mesh is a leaf", imports("./mesh", "./internal/clock"), "./mesh imports ./internal/clock"},
		{"mesh does no I/O", imports("./mesh", "os"), "./mesh imports os"},
		{"mesh does no I/O", imports("./mesh", "net/http"), "net/http"},
		{"proxy is a leaf", imports("./proxy", "./mesh"), "./proxy imports ./mesh"},
		{"proxy is a leaf", imports("./proxy/relay", "golang.org/x/net/http2"), "golang.org/x/net/http2"},
		{"lambdaext is a leaf", imports("./lambdaext", "./proxy"), "./proxy"},
		{"internal/clock is a leaf", imports("./internal/clock", "./mesh"), "./mesh"},
		{"internal/bufpool is a leaf", imports("./internal/bufpool", "golang.org/x/time/rate"), "golang.org/x/time/rate"},
		{"internal/sock is a leaf", imports("./internal/sock", "./internal/bufpool"), "./internal/bufpool"},
		{"tlsstate depends on mesh only", imports("./tlsstate", "./internal/paramstore"), "paramstore"},
		{"registrator depends on mesh only", imports("./registrator", "./internal/lambdaapi"), "lambdaapi"},
		{"proxy never imports tlsstate, in tests neither", imports("./proxy", "./tlsstate"), "./proxy imports"},
		{"proxy never imports tlsstate, in tests neither", func(g graph) {
			g["./proxy"].testImports = append(g["./proxy"].testImports, "./tlsstate")
		}, "a test of ./proxy imports ./tlsstate"},
		{"tlsstate never imports proxy, in tests neither", imports("./tlsstate", "./proxy/relay"), "./proxy/relay"},
		{"the AWS SDK is for adapters and mains", imports("./registrator", "github.com/aws/aws-sdk-go-v2/aws"), "./registrator"},
		{"the AWS SDK is for adapters and mains", imports("./internal/consulapi", "github.com/aws/smithy-go"), "./internal/consulapi"},
		{"the AWS SDK is for adapters and mains", func(g graph) { // below cmd, but no main
			imports("./cmd/consul-lambda/plan", "github.com/aws/aws-sdk-go-v2/aws")(g)
		}, "./cmd/consul-lambda/plan"},
		{"consul/api is for its adapter and mains", imports("./internal/lab", "github.com/hashicorp/consul/api"), "./internal/lab"},
		{"aws-lambda-go is for mains and examples", imports("./registrator", "github.com/aws/aws-lambda-go/events"), "events"},
		{"test worlds stay out of the product", imports("./tlsstate", "./internal/certtest"), "./internal/certtest"},
		{"test worlds stay out of the product", imports("./proxy", "./internal/clock/clocktest"), "clocktest"},
		{"test worlds stay out of the product", imports("./cmd/consul-lambda-registrator", "./internal/lab"), "registrator imports ./internal/lab"},
		{"the extension binary is small and holds no tests", imports("./internal/paramstore", "github.com/aws/aws-sdk-go-v2/config"),
			"./cmd/consul-lambda-extension -> ./internal/paramstore -> github.com/aws/aws-sdk-go-v2/config"},
		{"the extension binary is small and holds no tests", imports("./internal/clock", "testing"), "./internal/clock -> testing"},
		{"the extension binary is small and holds no tests", imports("./cmd/consul-lambda-extension", "github.com/hashicorp/consul/api"), "consul/api"},
		{"the extension binary is small and holds no tests", imports("./internal/paramstore", "./internal/lambdaapi"), "service/lambda"},
		{"the registrator binary holds no tests", imports("./registrator", "testing/synctest"), "testing/synctest"},
	}
	seeded := map[string]bool{}
	for _, tt := range tests {
		seeded[tt.rule] = true
		g := world()
		tt.seed(g)
		if got := violationsOf(t, tt.rule, g); !strings.Contains(strings.Join(got, "\n"), tt.says) {
			t.Errorf("%s: says %q, want a violation with %q", tt.rule, got, tt.says)
		}
	}
	for _, r := range rules {
		if !seeded[r.name] {
			t.Errorf("%s: no seeded violation shows that it catches anything", r.name)
		}
	}
}

func violationsOf(t *testing.T, name string, g graph) []string {
	t.Helper()
	for _, r := range rules {
		if r.name == name {
			violations, _ := r.check(g)
			return violations
		}
	}
	t.Fatalf("there is no rule %q", name)
	return nil
}

func TestAListingBecomesAGraph(t *testing.T) {
	g, err := parse([]byte(`
		{"ImportPath":"m.example/x/proxy","Name":"proxy","Module":{"Path":"m.example/x","Main":true},
		 "Imports":["net","m.example/x/mesh","golang.org/x/net/a"],"ImportMap":{"golang.org/x/net/a":"vendor/golang.org/x/net/a"},
		 "TestImports":["testing"],"XTestImports":["m.example/x/internal/lab"]}
		{"ImportPath":"m.example/xy","Name":"xy","Module":{"Path":"m.example/xy"}}
		{"ImportPath":"net","Name":"net","Standard":true}`))
	if err != nil {
		t.Fatal(err)
	}
	p := g["./proxy"]
	if p == nil || strings.Join(p.imports, " ") != "net ./mesh vendor/golang.org/x/net/a" || strings.Join(p.testImports, " ") != "testing ./internal/lab" {
		t.Errorf("./proxy is %+v", p)
	}
	if g["m.example/xy"] == nil || len(g.ours()) != 1 || !g["net"].standard {
		t.Errorf("graph is %v", g)
	}
}

func TestAListingThatCannotBeTrustedIsRefused(t *testing.T) {
	for name, listing := range map[string]string{
		"empty":           ``,
		"cut":             `{"ImportPath":`,
		"only others":     `{"ImportPath":"net","Standard":true}`,
		"a broken import": `{"ImportPath":"m/proxy","Module":{"Path":"m","Main":true},"Error":{"Err":"expected 'package'"}}`,
	} {
		if g, err := parse([]byte(listing)); err == nil {
			t.Errorf("%s: made %v of it", name, g)
		}
	}
}
