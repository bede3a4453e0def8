// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
)

// site is a world with its control plane, and the environment by which programs find it.
type site struct {
	world  *lab.World
	aws    *controlsim.Server
	consul *consulsim.Server
	env    map[string]string
}

// newSite opens the world to whoever has the credentials in env: a person's, in their own shell. It owns nothing.
func newSite(world *lab.World, aws *controlsim.Server, consul *consulsim.Server) *site {
	role := world.Options()
	world.Store.RequireAuth()
	aws.RequireAuth()
	fn := world.Function()
	env := map[string]string{
		"AWS_REGION":                                   "us-east-1",
		"AWS_ACCESS_KEY_ID":                            role.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY":                        role.SecretAccessKey,
		"AWS_SESSION_TOKEN":                            role.SessionToken,
		"AWS_LAMBDA_FUNCTION_NAME":                     fn.Name,
		"AWS_ENDPOINT_URL_LAMBDA":                      aws.URL(),
		"AWS_ENDPOINT_URL_STS":                         aws.URL(),
		"AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API": aws.URL(),
		"CONSUL_HTTP_ADDR":                             consul.Addr(),
		"NODE_NAME":                                    lab.RegistratorNode,
	}
	maps.Copy(env, fn.Env)
	// A service that denies the function is a fault: see faults.
	env["CONSUL_SERVICE_UPSTREAMS"] = without(env["CONSUL_SERVICE_UPSTREAMS"], lab.Denied)
	return &site{world: world, aws: aws, consul: consul, env: env}
}

// configure gives functions of the account the settings of the extension that env has, after the faults.
func (s *site) configure(functions []string) {
	variables := make(map[string]string)
	for name := range s.world.Function().Env {
		if strings.HasPrefix(name, "CONSUL_") { // the store's address is not the function's to set
			variables[name] = s.env[name]
		}
	}
	for _, name := range functions {
		s.aws.SetEnvironment(name, variables)
	}
}

// without takes a service out of a list of upstreams.
func without(list, service string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(list, ","), func(u string) bool { return strings.HasPrefix(u, service+":") }), ",")
}

// exports are the environment as a shell reads it.
func (s *site) exports() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(s.env)) {
		lines = append(lines, fmt.Sprintf("export %s='%s'", name, strings.ReplaceAll(s.env[name], "'", `'\''`)))
	}
	return lines
}
