// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/labtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

const (
	node       = "lambdas"
	dataPrefix = "/consul/lambda"
	tokenPath  = "/consul/token"
)

// policy is what docs/security.md says that the registrator needs, with its node; each rule under its line there.
func policy(node string) map[string]string {
	return map[string]string{
		"node":     fmt.Sprintf("node %q { policy = \"write\" }", node),
		"nodes":    `node_prefix "" { policy = "read" }`,
		"services": `service_prefix "" { policy = "write" }`,
		"peering":  `peering = "read"`,
	}
}

// world is a Consul and an AWS account.
type world struct {
	consul  *consulproc.Server
	admin   *api.Client
	aws     *controlsim.Server
	store   *ssmsim.Server
	gateway *meshsim.Gateway
	trust   string // Consul's trust domain
	account string // its number
}

// newWorld starts a Consul with ACLs and an account whose store has a token with the policy of the documentation.
func newWorld(t testing.TB, config consulproc.Config) *world {
	t.Helper()
	config.ACL = true
	w := newAccount(t, startConsul(t, config), "123456789012")
	w.store.Put(tokenPath, token(t, w.admin, rules(policy(node))))
	return w
}

func startConsul(t testing.TB, config consulproc.Config) *consulproc.Server {
	t.Helper()
	config.Binary, config.Dir = binary(t), t.TempDir()
	_ = labtest.All(t) // before Consul runs: a build takes longer than what waits for it
	server, err := consulproc.Start(t.Context(), config)
	ok(t, err)
	t.Cleanup(func() { ok(t, server.Close()) })
	return server
}

// newAccount is one more account with a gateway beside a Consul that runs. Its store is empty.
func newAccount(t testing.TB, server *consulproc.Server, account string) *world {
	t.Helper()
	w := &world{consul: server, admin: client(t, server), account: account}
	roots, _, err := w.admin.Connect().CARoots(nil)
	ok(t, err)
	w.trust = roots.TrustDomain
	w.aws, err = controlsim.Start(controlsim.Config{Account: account})
	ok(t, err)
	t.Cleanup(w.aws.Close)
	w.store, err = ssmsim.Start(ssmsim.Config{AccountID: account})
	ok(t, err)
	t.Cleanup(w.store.Close)
	w.gateway, err = meshsim.NewGateway(meshsim.GatewayConfig{})
	ok(t, err)
	t.Cleanup(func() { ok(t, w.gateway.Close()) })
	return w
}

func client(t testing.TB, s *consulproc.Server) *api.Client {
	t.Helper()
	c, err := api.NewClient(&api.Config{Address: s.Addr(), Scheme: "http", Token: s.Token(), HttpClient: s.HTTPClient()})
	ok(t, err)
	return c
}

// token makes a token with these ACL rules.
func token(t testing.TB, admin *api.Client, rules string) (secret string) {
	t.Helper()
	p, _, err := admin.ACL().PolicyCreate(&api.ACLPolicy{Name: fmt.Sprintf("p-%d", rand.Uint64()), Rules: rules}, nil)
	ok(t, err)
	made, _, err := admin.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: p.ID}}}, nil)
	ok(t, err)
	return made.SecretID
}

func rules(of map[string]string) string {
	var b strings.Builder
	for rule := range maps.Values(of) {
		b.WriteString(rule + "\n")
	}
	return b.String()
}

// enabled are the tags of a function that is to be in the mesh, and more in pairs, each named without its prefix.
func enabled(more ...string) map[string]string {
	tags := map[string]string{registrator.TagEnabled: "true"}
	for i := 0; i < len(more); i += 2 {
		tags[registrator.TagPrefix+more[i]] = more[i+1]
	}
	return tags
}

// env is a change to a program's environment.
type env map[string]string

// aRegistrator is the registrator's program in a sandbox of its own.
type aRegistrator struct{ *lambdasim.Sandbox }

func (w *world) registrator(t testing.TB, changes env) aRegistrator {
	t.Helper()
	variables := map[string]string{
		"NODE_NAME":                    node,
		"CONSUL_HTTP_ADDR":             "http://" + w.consul.Addr(),
		"CONSUL_HTTP_TOKEN_PATH":       tokenPath,
		"CONSUL_EXTENSION_DATA_PREFIX": dataPrefix,
		"CONSUL_LAMBDA_RATE_SSM_PUT":   "0",
		"CONSUL_LAMBDA_RATE_CONSUL":    "0",
	}
	for _, service := range []string{"LAMBDA", "SSM", "RESOURCE_GROUPS_TAGGING_API", "STS"} {
		variables["AWS_ENDPOINT_URL_"+service] = w.aws.URL()
	}
	variables["AWS_ENDPOINT_URL_SSM"] = w.store.URL()
	maps.Copy(variables, changes)
	return aRegistrator{w.start(t, lambdasim.Function{
		Name: "consul-lambda-registrator", Bootstrap: labtest.All(t).Registrator, Timeout: 2 * patience, Env: variables,
	})}
}

func (w *world) start(t testing.TB, fn lambdasim.Function) *lambdasim.Sandbox {
	t.Helper()
	box, err := lambdasim.Start(t.Context(), fn, lambdasim.Options{AccountID: w.account})
	var failed *lambdasim.InitError
	if errors.As(err, &failed) {
		t.Log(text(failed.Logs))
	}
	ok(t, err)
	t.Cleanup(func() {
		box.Kill()
		for _, l := range box.Logs() {
			if strings.Contains(l.Text, "PRIV"+"ATE KEY") || strings.Contains(l.Text, "panic") {
				t.Errorf("logged: %s", l.Text)
			}
		}
		if t.Failed() {
			t.Log(text(box.Logs()))
		}
	})
	return box
}

func text(lines []lambdasim.Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s: %s\n", l.Source, l.Text)
	}
	return b.String()
}

// try makes a full run. What failed is in the error, as whoever invoked it is told.
func (r aRegistrator) try(t testing.TB) (result registrator.Result, failure error) {
	t.Helper()
	answer, err := r.Invoke(t.Context(), []byte(`{}`))
	ok(t, err)
	if answer.FunctionError != "" {
		var why struct{ ErrorMessage string }
		ok(t, json.Unmarshal(answer.Payload, &why))
		return result, errors.New(why.ErrorMessage)
	}
	ok(t, json.Unmarshal(answer.Payload, &result))
	return result, nil
}

// run makes a full run, which must succeed and have nothing to complain about.
func (r aRegistrator) run(t testing.TB) registrator.Result {
	t.Helper()
	result, err := r.try(t)
	ok(t, err)
	if result.Warned+result.Failed+result.Skipped > 0 {
		t.Errorf("the run left something: %+v", result)
	}
	return result
}

// changes are all that a run did.
func changes(r registrator.Result) int { return r.Created + r.Updated + r.Renewed + r.Deleted }

// document returns what is stored for a function.
func (w *world) document(t testing.TB, function string) mesh.Document {
	t.Helper()
	p, there := w.store.Get(dataPrefix + "/default/default/" + function)
	if !there {
		t.Fatalf("function %s has no document", function)
	}
	doc, err := mesh.ParseDocument([]byte(p.Value))
	ok(t, err)
	return doc
}

// allow lets sources call the service and nobody else; before its first connection, for Consul's agent may keep an older answer.
func (w *world) allow(t testing.TB, service string, sources ...string) {
	t.Helper()
	entry := &api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: service}
	for _, s := range sources {
		entry.Sources = append(entry.Sources, &api.SourceIntention{Name: s, Action: api.IntentionActionAllow})
	}
	entry.Sources = append(entry.Sources, &api.SourceIntention{Name: "*", Action: api.IntentionActionDeny})
	_, _, err := w.admin.ConfigEntries().Set(entry, nil)
	ok(t, err)
}

// destination puts Consul's own proxy in front of an application, and the gateway in front of that.
func (w *world) destination(t testing.TB, service, local string) *consulproc.Proxy {
	t.Helper()
	proxy, err := w.consul.ConnectProxy(t.Context(), consulproc.ProxyConfig{Service: service, LocalAddr: local})
	ok(t, err)
	w.gateway.Route(w.sni(t, service, w.consul.Datacenter()), proxy.Addr())
	return proxy
}

func (w *world) sni(t testing.TB, service, datacenter string) string {
	t.Helper()
	s, err := mesh.NewService(service, "", "")
	ok(t, err)
	name, err := mesh.ServiceSNI(s, datacenter, w.trust)
	ok(t, err)
	return name.String()
}

// aFunction is a function with the extension, in a sandbox of its own.
type aFunction struct {
	*lambdasim.Sandbox
	host string // where its upstreams are
}

func (w *world) function(t testing.TB, name, upstreams string, changes env) aFunction {
	t.Helper()
	// Not 127.64.0.0/10, which is the lab's: chosen at random it is not also another function's.
	f := aFunction{host: fmt.Sprintf("127.%d.%d.%d", 128+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))}
	variables := map[string]string{
		"CONSUL_MESH_GATEWAY_URI":      w.gateway.Addr(),
		"CONSUL_EXTENSION_DATA_PREFIX": dataPrefix,
		"CONSUL_SERVICE_UPSTREAMS":     upstreams,
		"CONSUL_EXTENSION_BIND_ADDR":   f.host,
		"CONSUL_REFRESH_FREQUENCY":     "1s",
		"AWS_ENDPOINT_URL_SSM":         w.store.URL(),
	}
	maps.Copy(variables, changes)
	programs := labtest.All(t)
	f.Sandbox = w.start(t, lambdasim.Function{
		Name: name, Bootstrap: programs.Function, Extensions: []string{programs.Extension}, Timeout: 2 * patience, Env: variables,
	})
	return f
}

func (f aFunction) addr(port int) string { return fmt.Sprintf("%s:%d", f.host, port) }

// event and answer are those of examples/mesh-function.
type (
	event struct {
		Calls    []call `json:"calls"`
		Repeat   int    `json:"repeat"`
		Parallel int    `json:"parallel"`
	}
	call struct {
		HTTP string `json:"http"`
	}
	answer struct {
		Upstream string
		Status   int
		Body     string
		Error    string
	}
)

// invoke has the function make calls.
func (f aFunction) invoke(ctx context.Context, e event) ([]answer, error) {
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	result, err := f.Invoke(ctx, payload)
	if err != nil {
		return nil, err
	}
	var got struct{ Results []answer }
	if err := json.Unmarshal(result.Payload, &got); err != nil || len(got.Results) != len(e.Calls)*max(1, e.Repeat) {
		return nil, fmt.Errorf("the function answered %s", result.Payload)
	}
	return got.Results, nil
}

// get has the function request the root of a port.
func (f aFunction) get(t testing.TB, port int) answer {
	t.Helper()
	answers, err := f.invoke(t.Context(), event{Calls: []call{{"http://" + f.addr(port) + "/"}}})
	ok(t, err)
	return answers[0]
}

// say sends a line over a new connection to the port, as the function does, and wants it back.
func (f aFunction) say(ctx context.Context, port int, line string) error {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", f.addr(port))
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn, line)
}

// exchange sends a line and wants it back.
func exchange(conn net.Conn, line string) error {
	if err := conn.SetDeadline(time.Now().Add(patience / 4)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(line + "\n")); err != nil {
		return err
	}
	back := make([]byte, len(line)+1)
	for n := 0; n < len(back); {
		more, err := conn.Read(back[n:])
		if n += more; err != nil && n < len(back) {
			return err
		}
	}
	if string(back) != line+"\n" {
		return fmt.Errorf("%q came back", back)
	}
	return nil
}

// entry reads a service-defaults entry.
func (w *world) entry(t testing.TB, service string) *api.ServiceConfigEntry {
	t.Helper()
	e, _, err := w.admin.ConfigEntries().Get(api.ServiceDefaults, service, nil)
	ok(t, err)
	return e.(*api.ServiceConfigEntry)
}

// instances are where a service is registered.
func (w *world) instances(t testing.TB, service string) []*api.CatalogService {
	t.Helper()
	list, _, err := w.admin.Catalog().Service(service, "", nil)
	ok(t, err)
	return list
}

func controlFunction(name string, tags map[string]string) controlsim.Function {
	return controlsim.Function{Name: name, Tags: tags, Versions: 1}
}
