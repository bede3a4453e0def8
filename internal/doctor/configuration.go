// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"context"
	"slices"
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/extensionenv"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// unnamed is the mistake that nobody can make in a sandbox: Lambda sets the variable there.
const unnamed = "AWS_LAMBDA_FUNCTION_NAME: not set"

// configuration reads the environment as the extension does.
func configuration(_ context.Context, p *patient) []Result {
	f := finding{name: "configuration"}
	// Lambda sets the address in every sandbox; elsewhere it is no mistake of the user's that it is missing.
	environ := append(slices.Clone(p.cfg.Environ), "AWS_LAMBDA_RUNTIME_API=none")
	env, err := extensionenv.Parse(environ)
	var results []Result
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			wrong, accepted, ok := strings.Cut(line, "; accepted: ")
			remedy := "correct it: the extension does not start with it, and neither does the function"
			if ok {
				remedy = "accepted: " + accepted
			}
			if wrong == unnamed {
				remedy = "say --function NAME, which reads the whole configuration of that function from AWS, or set the variable to its name"
			}
			results = append(results, f.fail(remedy, "%s", wrong))
		}
	}
	for _, w := range env.Warnings {
		results = append(results, f.warn("", "%s", w))
	}
	if err != nil {
		return results
	}
	if len(env.Upstreams) == 0 {
		return append(results, f.warn("set it, such as CONSUL_SERVICE_UPSTREAMS=web:8080, and call localhost:8080",
			"CONSUL_SERVICE_UPSTREAMS is empty: the extension has nothing to do"))
	}
	p.upstreams = env.Upstreams
	for _, name := range p.cfg.Only {
		if !slices.ContainsFunc(env.Upstreams, func(u mesh.Upstream) bool { return u.Service().Name() == name }) {
			return append(results, f.fail("name one of CONSUL_SERVICE_UPSTREAMS", "no upstream is called %q", name))
		}
	}
	if len(p.cfg.Only) > 0 {
		p.upstreams = slices.DeleteFunc(slices.Clone(env.Upstreams), func(u mesh.Upstream) bool {
			return !slices.Contains(p.cfg.Only, u.Service().Name())
		})
	}
	p.env = &env
	results = append(results, f.ok("function %s, %s, %s", env.Service.Name(), count(len(p.upstreams), "upstream"), count(len(env.Gateways), "gateway")))
	for _, u := range p.upstreams {
		if u.String() != strings.ToLower(u.String()) {
			results = append(results, finding{f.name, u.String()}.warn("register the service in lower case, and name it so here",
				"the name has capitals: a gateway built on Envoy looks a server name up in lower case, and may not find it"))
		}
	}
	return results
}
