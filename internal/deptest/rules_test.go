// SPDX-License-Identifier: MPL-2.0

package deptest

import (
	"fmt"
	"slices"
	"strings"
)

// rule is one sentence about the graph. check returns a line for each violation, and how many packages or imports it judged: none
// means that what the rule is about does not exist yet.
type rule struct {
	name   string
	reason string
	check  func(graph) (violations []string, judged int)
}

const (
	awsSDK    = "github.com/aws/aws-sdk-go-v2"
	smithy    = "github.com/aws/smithy-go/..."
	lambdaGo  = "github.com/aws/aws-lambda-go/..."
	consulAPI = "github.com/hashicorp/consul/api/..."
	xsys      = "golang.org/x/sys/..."
	xsync     = "golang.org/x/sync/..."
	bytebuf   = "github.com/valyala/bytebufferpool"
	clock     = "./internal/clock"
	bufpool   = "./internal/bufpool"
	sock      = "./internal/sock"

	extension = "./cmd/consul-lambda-extension"
)

// testWorlds are built for tests and for the person's command: they hold certificate authorities, fake clouds and fault knobs.
var testWorlds = []string{"./internal/lab/...", "./internal/certtest/...", "./internal/clock/clocktest", "./internal/waittest", "./internal/soak", "./bench/...", "./fuzz/..."}

var rules = []rule{
	{
		"every package has a place in the layout",
		"the other rules name packages: one at a place that they do not know would be bound by none of them",
		inLayout("./cmd/...", "./mesh/...", "./tlsstate/...", "./proxy/...", "./lambdaext/...", "./registrator/...",
			"./internal/...", "./bench/...", "./fuzz/...", "./deploy/...", "./examples/..."),
	},
	{
		"mesh is a leaf",
		"names and wire formats are what everything else agrees on: they depend on nothing of ours",
		mayImport("./mesh/...", xsys, bytebuf),
	},
	{
		"mesh does no I/O",
		"a parser that cannot reach a file, a socket or the environment is tested and fuzzed by values alone",
		neverImports("./mesh/...", "os/...", "syscall", "net/http/...", "log", xsys),
	},
	{
		"proxy is a leaf",
		"it moves bytes for whoever dials: knowing no policy keeps it auditable, and reusable outside Lambda",
		mayImport("./proxy/...", xsys, bytebuf, clock, bufpool, sock),
	},
	{
		"lambdaext is a leaf",
		"a client of one HTTP API needs net/http and nothing else",
		mayImport("./lambdaext/...", xsys, bytebuf, clock, bufpool),
	},
	{
		"internal/clock is a leaf",
		"it is let into every leaf, so it must not bring anything along",
		mayImport("./internal/clock/...", xsys),
	},
	{
		"internal/bufpool is a leaf",
		"it is let into every leaf, so it must not bring anything along",
		mayImport("./internal/bufpool/...", xsys, bytebuf),
	},
	{
		"internal/sock is a leaf",
		"it is two system calls: with anything beside them it would be a second package net",
		mayImport("./internal/sock/...", xsys),
	},
	{
		"tlsstate depends on mesh only",
		"trust is decided from a document and a name: where the document comes from is an adapter's business",
		mayImport("./tlsstate/...", "./mesh", xsys, xsync, bytebuf, clock, bufpool, sock),
	},
	{
		"registrator depends on mesh only",
		"the plan is a pure function over our own types; APIs are reached through interfaces that it declares",
		mayImport("./registrator/...", "./mesh", clock, xsync, "golang.org/x/time/..."),
	},
	{
		"proxy never imports tlsstate, in tests neither",
		"a main joins them with a dial function; a test that needs both is a test of that main, or of the lab",
		neverImports("./proxy/...", "./tlsstate/..."),
	},
	{
		"tlsstate never imports proxy, in tests neither",
		"a main joins them with a dial function; a test that needs both is a test of that main, or of the lab",
		neverImports("./tlsstate/...", "./proxy/..."),
	},
	{
		"the AWS SDK is for adapters and mains",
		"one file speaks to one service, everything else sees our own types: the SDK can be replaced, faked and measured there. " +
			"assemble is the part of a main that two of them share",
		importedOnlyBy([]string{awsSDK + "/...", smithy}, "./internal/paramstore", "./internal/lambdaapi", "./internal/assemble", "./cmd/*"),
	},
	{
		"consul/api is for its adapter and mains",
		"it brings some twenty modules, and it drops fields of service-defaults that it does not know (G6)",
		importedOnlyBy([]string{consulAPI}, "./internal/consulapi", "./cmd/*"),
	},
	{
		"aws-lambda-go is for mains and examples",
		"it is a process's main loop, not a library",
		importedOnlyBy([]string{lambdaGo}, "./cmd/*", "./deploy/...", "./examples/..."),
	},
	{
		"test worlds stay out of the product",
		"they hold certificate authorities, fault knobs and clocks that are set; no shipped path may reach one (tests may)",
		importedOnlyBy([]string{"./internal/lab/...", "./internal/certtest/...", "./internal/clock/clocktest", "./internal/waittest"},
			"./internal/lab/...", "./internal/certtest/...", "./internal/soak", "./bench/...", "./fuzz/...", "./cmd/consul-lambda"),
	},
	{
		"the extension binary is small and holds no tests",
		"its size is read from disk in every cold start, and what is not linked cannot be attacked; the SDK's config package alone " +
			"brings SSO, STS and IMDS clients that a Lambda sandbox never uses",
		linksNot(extension, slices.Concat(testWorlds, []string{
			consulAPI, lambdaGo, awsSDK + "/config/...", awsSDK + "/service/lambda/...", awsSDK + "/service/resourcegroupstaggingapi/...",
			"./registrator/...", "./internal/lambdaapi/...", "./internal/consulapi/...", "testing/...",
		})...),
	},
	{
		"the registrator binary holds no tests",
		"it has the rights to write an account's key material: what it does not link it cannot run",
		linksNot("./cmd/consul-lambda-registrator", slices.Concat(testWorlds, []string{"./proxy/...", "./lambdaext/...", "testing/..."})...),
	},
}

// inLayout says that every package of ours matches one of the patterns.
func inLayout(patterns ...string) func(graph) ([]string, int) {
	return func(g graph) (violations []string, judged int) {
		for _, path := range g.ours() {
			judged++
			if !matchAny(patterns, path) {
				violations = append(violations, path+" is at no known place")
			}
		}
		return violations, judged
	}
}

// mayImport says that the packages of the tree import, outside their tests, the standard library, each other and the allowed only.
func mayImport(tree string, allowed ...string) func(graph) ([]string, int) {
	return func(g graph) (violations []string, judged int) {
		for _, path := range g.ours() {
			if !match(tree, path) {
				continue
			}
			judged++
			for _, dep := range g[path].imports {
				if !g.standard(dep) && !match(tree, dep) && !matchAny(allowed, dep) {
					violations = append(violations, fmt.Sprintf("%s imports %s", path, dep))
				}
			}
		}
		return violations, judged
	}
}

// neverImports says that the packages of the tree import none of the forbidden, and of those that are ours not in their tests either.
func neverImports(tree string, forbidden ...string) func(graph) ([]string, int) {
	return func(g graph) (violations []string, judged int) {
		for _, path := range g.ours() {
			if !match(tree, path) {
				continue
			}
			judged++
			for _, dep := range g[path].imports {
				if matchAny(forbidden, dep) {
					violations = append(violations, fmt.Sprintf("%s imports %s", path, dep))
				}
			}
			for _, dep := range g[path].testImports {
				if strings.HasPrefix(dep, "./") && matchAny(forbidden, dep) {
					violations = append(violations, fmt.Sprintf("a test of %s imports %s", path, dep))
				}
			}
		}
		return violations, judged
	}
}

// importedOnlyBy says that of our packages only the named ones import a target, outside tests. "./cmd/*" names every main package
// directly under cmd.
func importedOnlyBy(targets []string, by ...string) func(graph) ([]string, int) {
	allowed := func(g graph, path string) bool {
		if matchAny(by, path) {
			return true
		}
		name, ok := strings.CutPrefix(path, "./cmd/")
		return ok && !strings.Contains(name, "/") && g[path].name == "main" && slices.Contains(by, "./cmd/*")
	}
	return func(g graph) (violations []string, judged int) {
		for _, path := range g.ours() {
			for _, dep := range g[path].imports {
				if !matchAny(targets, dep) {
					continue
				}
				judged++
				if !allowed(g, path) {
					violations = append(violations, fmt.Sprintf("%s imports %s", path, dep))
				}
			}
		}
		return violations, judged
	}
}

// linksNot says that no import of the binary, direct or not, is one of the forbidden. A violation shows the shortest way to it.
func linksNot(binary string, forbidden ...string) func(graph) ([]string, int) {
	return func(g graph) (violations []string, judged int) {
		if g[binary] == nil {
			return nil, 0
		}
		paths := make([]string, 0, len(g))
		for path := range g {
			paths = append(paths, path)
		}
		slices.Sort(paths)
		for _, path := range paths {
			if !matchAny(forbidden, path) {
				continue
			}
			if chain := g.chain(binary, path); chain != nil {
				violations = append(violations, strings.Join(chain, " -> "))
			}
		}
		return violations, 1
	}
}
