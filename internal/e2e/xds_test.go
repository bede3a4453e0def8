// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
)

// envoy is what Consul configures an Envoy to do: resources by name, as Envoy's API has them.
type envoy struct {
	Clusters, Listeners, Routes map[string]json.RawMessage
}

// xds asks Consul for the configuration of a proxy that is registered with its agent, until all of it matches the expression.
func (w *world) xds(t testing.TB, proxy, until string) envoy {
	t.Helper()
	program := filepath.Join(root, "bin", "xdsdump")
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) && os.Getenv("CONSUL_REQUIRED") != "1" {
		t.Skip("run make bin/xdsdump for this test: ", err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-addr", w.consul.GRPCAddr(), "-proxy", proxy, "-until", until, "-timeout", patience.String())
	cmd.Env = []string{"CONSUL_HTTP_TOKEN=" + w.consul.Token()}
	var says bytes.Buffer
	cmd.Stderr = &says
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, says.String()) // not the text: it has keys
	}
	var e envoy
	ok(t, json.Unmarshal(text, &e))
	return e
}

// find returns every object, however deep in a resource, that has the field with that value.
func find(t testing.TB, resource json.RawMessage, field string, value any) (found []map[string]any) {
	t.Helper()
	var visit func(any)
	visit = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v[field] == value {
				found = append(found, v)
			}
			for _, inner := range v {
				visit(inner)
			}
		case []any:
			for _, inner := range v {
				visit(inner)
			}
		}
	}
	var top any
	ok(t, json.Unmarshal(resource, &top))
	visit(top)
	return found
}

const (
	httpManager  = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	lambdaFilter = "type.googleapis.com/envoy.extensions.filters.http.aws_lambda.v3.Config"
	upstreamTLS  = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
)

// How the service is called from the mesh is not ours: Consul makes it of the service-defaults that we write. It makes an Envoy that
// invokes the function, or the alias, that the tags name, in both places where Consul has its Lambda extension.
func TestConsulMakesEnvoyInvokeTheTaggedFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, consulproc.Config{})
	w.aws.AddFunctions(
		controlFunction("orders", enabled("aliases", "live", "payload-passthrough", "true")),
		controlFunction("audit", enabled("invocation-mode", "ASYNCHRONOUS")),
	)
	w.aws.SetAliases("orders", map[string]string{"live": "1"})
	if r := w.registrator(t, nil).run(t); r.Created != 3 {
		t.Fatalf("the run did %+v", r)
	}
	type lambda struct {
		passthrough bool
		mode        any // nil: Envoy's default, synchronous
		arn         string
	}
	want := map[string]lambda{
		"orders":      {true, nil, w.aws.ARN("orders")},
		"orders-live": {true, nil, w.aws.ARN("orders:live")},
		"audit":       {false, "ASYNCHRONOUS", w.aws.ARN("audit")},
	}
	var upstreams []api.Upstream
	var linked []api.LinkedService
	for name := range want {
		upstreams = append(upstreams, api.Upstream{DestinationName: name, LocalBindPort: 9100 + len(upstreams)})
		linked = append(linked, api.LinkedService{Name: name})
		w.allow(t, name, "shop")
	}
	agent := w.admin.Agent()
	ok(t, agent.ServiceRegister(&api.AgentServiceRegistration{Name: "shop", Port: 80}))
	sidecar := func() string {
		ok(t, agent.ServiceRegister(&api.AgentServiceRegistration{
			Kind: api.ServiceKindConnectProxy, Name: "shop-sidecar-proxy", Port: 9001,
			Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: "shop", Upstreams: upstreams},
		}))
		return "shop-sidecar-proxy"
	}
	// A gateway that is linked to a service takes it over from the sidecars, so it comes after them.
	gateway := func() string {
		ok(t, agent.ServiceRegister(&api.AgentServiceRegistration{Kind: api.ServiceKindTerminatingGateway, Name: "exit", Port: 9002}))
		_, _, err := w.admin.ConfigEntries().Set(&api.TerminatingGatewayConfigEntry{Kind: api.TerminatingGateway, Name: "exit", Services: linked}, nil)
		ok(t, err)
		return "exit"
	}

	for _, start := range []func() string{sidecar, gateway} {
		proxy := start()
		// Three filters, in whatever order.
		config := w.xds(t, proxy, `(?:"arn":"arn:aws:lambda:us-east-1:123456789012:function:.*){3}`)
		invoked := map[string]bool{}
		for _, m := range managers(t, config) {
			for _, f := range find(t, m, "@type", lambdaFilter) {
				arn := f["arn"].(string)
				invoked[arn] = true
				for name, is := range want {
					if is.arn != arn {
						continue
					}
					if p, _ := f["payloadPassthrough"].(bool); p != is.passthrough || f["invocationMode"] != is.mode {
						t.Errorf("%s: service %s is invoked by %v", proxy, name, f)
					}
					checkRoute(t, proxy, name, m, config)
					checkCluster(t, proxy, name, config)
				}
			}
		}
		for name, is := range want {
			if !invoked[is.arn] {
				t.Errorf("%s: nothing invokes %s for service %s", proxy, is.arn, name)
			}
		}
		if len(invoked) != len(want) {
			t.Errorf("%s: functions are invoked that nobody asked for: %v", proxy, invoked)
		}
	}
}

// managers are all HTTP connection managers of the listeners.
func managers(t testing.TB, config envoy) (all []json.RawMessage) {
	t.Helper()
	for _, l := range config.Listeners {
		for _, m := range find(t, l, "@type", httpManager) {
			text, err := json.Marshal(m)
			ok(t, err)
			all = append(all, text)
		}
	}
	return all
}

// checkRoute wants the manager to send what comes to the cluster of the service. Lambda's endpoint tells functions apart by the path
// and takes no Host but its own: the filter sets both, so no route may rewrite the host, and its port is cut off.
func checkRoute(t testing.TB, proxy, service string, manager json.RawMessage, config envoy) {
	t.Helper()
	var m struct {
		StripAnyHostPort bool
		RouteConfig      json.RawMessage
		RDS              struct{ RouteConfigName string }
	}
	ok(t, json.Unmarshal(manager, &m))
	route := m.RouteConfig
	if m.RDS.RouteConfigName != "" {
		route = config.Routes[m.RDS.RouteConfigName]
	}
	if !m.StripAnyHostPort || !bytes.Contains(route, []byte(`"`+service+`.default.dc1.internal.`)) || bytes.Contains(route, []byte("ostRewrite")) {
		t.Errorf("%s: service %s, port stripped: %t, has the route %s", proxy, service, m.StripAnyHostPort, route)
	}
}

// checkCluster wants Lambda's endpoint in the function's region behind the cluster of a service, by a name that is resolved, over TLS.
func checkCluster(t testing.TB, proxy, service string, config envoy) {
	t.Helper()
	found := false
	for name, c := range config.Clusters {
		if !strings.HasPrefix(name, service+".default.") {
			continue
		}
		found = true
		address := find(t, c, "address", "lambda.us-east-1.amazonaws.com")
		kind := find(t, c, "type", "LOGICAL_DNS")
		tls := find(t, c, "@type", upstreamTLS)
		if len(address) != 1 || address[0]["portValue"] != 443.0 || len(kind) != 1 || len(tls) != 1 || tls[0]["sni"] != "*.amazonaws.com" {
			t.Errorf("%s: the cluster of %s is %s", proxy, service, c)
		}
		if len(find(t, c, "egress_gateway", true)) != 1 {
			t.Errorf("%s: the cluster of %s is not marked for the filter: %s", proxy, service, c)
		}
	}
	if !found {
		t.Errorf("%s: service %s has no cluster", proxy, service)
	}
}
