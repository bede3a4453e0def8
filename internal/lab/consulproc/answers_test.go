// SPDX-License-Identifier: MPL-2.0

package consulproc_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
)

const (
	node    = `"Node":"lambdas","Address":"127.0.0.1"`
	service = `"Service":{"ID":"fn","Service":"fn","Tags":["managed-by-lambda-registrator"],"Meta":{"k":"v"}}`
	web     = `{"Kind":"service-defaults","Name":"web","Protocol":"http"}`
	webTCP  = `{"Kind":"service-defaults","Name":"web","Protocol":"tcp"}`
)

// What a client of Consul has to reckon with, as Consul 1.22.5 answers it; stand-ins are built to it. The questions are
// asked in this order, of one server.
var answers = []struct {
	about  string
	token  string // "" is the management token; "none" sends none, others are the names of tokens below
	method string
	path   string
	body   string
	status int
	want   string // a regular expression for the whole body
}{
	// Reads of what is not there, or not permitted, are empty, not errors.
	{"a missing node", "", "GET", "/v1/catalog/node-services/lambdas", "", 200, `{"Node":null,"Services":null}`},
	{"no entries", "", "GET", "/v1/config/service-defaults", "", 200, `\[\]`},
	{"a missing entry", "", "GET", "/v1/config/service-defaults/web", "", 404, `Config entry not found for "service-defaults" / "web"`},
	{"no peerings", "", "GET", "/v1/peerings", "", 200, `\[\]`},
	{"no peerings, by operator:read", "operator", "GET", "/v1/peerings", "", 200, `\[\]`},
	{"an unknown token", "unknown", "GET", "/v1/config/service-defaults", "", 403, `ACL not found`},

	// A stale index is an answer, not an error.
	{"create", "", "PUT", "/v1/config?cas=0", web, 200, `true`},
	{"create what exists", "", "PUT", "/v1/config?cas=0", webTCP, 200, `false`},
	{"change a stale one", "", "PUT", "/v1/config?cas=3", webTCP, 200, `false`},
	{"write the same, stale or not", "", "PUT", "/v1/config?cas=3", web, 200, `true`},
	{"change an absent one", "", "PUT", "/v1/config?cas=3", `{"Kind":"service-defaults","Name":"absent"}`, 200, `false`},
	{"delete a stale one", "", "DELETE", "/v1/config/service-defaults/web?cas=3", "", 200, `false`},
	{"delete an absent one", "", "DELETE", "/v1/config/service-defaults/absent", "", 200, `{}`},
	{"delete an absent one by index", "", "DELETE", "/v1/config/service-defaults/absent?cas=3", "", 200, `true`},
	{"an entry", "", "GET", "/v1/config/service-defaults/web", "", 200,
		`{"Kind":"service-defaults","Name":"web","Protocol":"http","TransparentProxy":{},"MeshGateway":{},"Expose":{},"Hash":\d+,"CreateIndex":(\d+),"ModifyIndex":\d+}`},
	{"filtered", "none", "GET", "/v1/config/service-defaults", "", 200, `\[\]`},
	{"refused", "none", "GET", "/v1/config/service-defaults/web", "", 403, `Permission denied: anonymous token lacks .*'service:read' on "web".*`},

	// Fields that Consul does not know are refused, but not those that it only reports.
	{"an unknown field", "", "PUT", "/v1/config", `{"Kind":"service-defaults","Name":"web","Surprise":1}`, 400, `(?s).*invalid config key "Surprise".*`},
	{"an unknown field within", "", "PUT", "/v1/config", `{"Kind":"service-defaults","Name":"web","EnvoyExtensions":[{"Name":"builtin/aws/lambda","Surprise":1}]}`,
		400, `(?s).*invalid config key "EnvoyExtensions\[0\].Surprise".*`},
	{"a namespace", "", "PUT", "/v1/config", `{"Kind":"service-defaults","Name":"web","Namespace":""}`, 400, `(?s).*consul enterprise feature.*`},
	{"what a read gave", "", "PUT", "/v1/config", `{"Kind":"service-defaults","Name":"web","Protocol":"http","Hash":18446744073709551615,"CreateIndex":1,"ModifyIndex":1}`, 200, `true`},
	{"an extension without ARN", "", "PUT", "/v1/config", `{"Kind":"service-defaults","Name":"web","EnvoyExtensions":[{"Name":"builtin/aws/lambda"}]}`,
		500, `(?s).*ARN is required.*`},

	// The catalog. A node needs node:write only when it is made or changed.
	{"an unknown node", "fn", "PUT", "/v1/catalog/register", `{` + node + `,` + service + `}`, 403, `Permission denied: .*'node:write' on "lambdas"`},
	{"an unknown node, not updated", "fn", "PUT", "/v1/catalog/register", `{"SkipNodeUpdate":true,` + node + `,` + service + `}`,
		403, `Permission denied: .*'node:write' on "lambdas"`},
	{"a node", "", "PUT", "/v1/catalog/register", `{` + node + `,` + service + `}`, 200, `true`},
	{"a known node", "fn", "PUT", "/v1/catalog/register", `{` + node + `,` + service + `}`, 200, `true`},
	{"a changed node", "fn", "PUT", "/v1/catalog/register", `{"Node":"lambdas","Address":"127.0.0.2",` + service + `}`,
		403, `Permission denied: .*'node:write' on "lambdas"`},
	{"the node", "", "GET", "/v1/catalog/node-services/lambdas", "", 200, `{"Node":{"ID":"","Node":"lambdas",.*},"Services":\[{"ID":"fn",.*}\]}`},
	{"the node, filtered", "none", "GET", "/v1/catalog/node-services/lambdas", "", 200, `{"Node":null,"Services":null}`},
	{"deregister what is not there", "", "PUT", "/v1/catalog/deregister", `{"Node":"lambdas","ServiceID":"absent"}`, 200, `true`},
	{"the same without node:write", "fn", "PUT", "/v1/catalog/deregister", `{"Node":"lambdas","ServiceID":"absent"}`, 500, `Unknown service ID 'absent'`},
	{"deregister without service:write", "other", "PUT", "/v1/catalog/deregister", `{"Node":"lambdas","ServiceID":"fn"}`,
		403, `Permission denied: .*'service:write' on "fn"`},

	// A transaction is refused as a whole, and by 409 for whatever reason.
	{"a stale node", "", "PUT", "/v1/txn", `[{"Node":{"Verb":"cas","Node":{"Node":"lambdas","Address":"127.0.0.1","ModifyIndex":3}}}]`,
		409, `{"Results":null,"Errors":\[{"OpIndex":0,"What":"failed to set node \\"lambdas\\", index is stale"}\]}`},
	{"a stale service", "", "PUT", "/v1/txn", `[{"Service":{"Verb":"delete-cas","Node":"lambdas","Service":{"ID":"fn","Service":"fn","ModifyIndex":3}}}]`,
		409, `.*failed to delete service \\"fn\\" on node \\"lambdas\\", index is stale.*`},
	{"a service that is gone", "", "PUT", "/v1/txn", `[{"Service":{"Verb":"delete-cas","Node":"lambdas","Service":{"ID":"x","Service":"x","ModifyIndex":3}}}]`,
		409, `.*failed to delete service \\"x\\" on node \\"lambdas\\", index is stale.*`},
	{"one that is not permitted", "other", "PUT", "/v1/txn", `[{"Service":{"Verb":"delete","Node":"lambdas","Service":{"ID":"fn","Service":"fn"}}}]`,
		409, `.*Permission denied: .*'service:write' on \\"fn\\".*`},
	{"too many", "", "PUT", "/v1/txn", `[` + strings.Repeat(`{"Service":{"Verb":"get","Node":"lambdas","Service":{"ID":"fn"}}},`, 128) +
		`{"Service":{"Verb":"get","Node":"lambdas","Service":{"ID":"fn"}}}]`, 413, `Transaction contains too many operations \(129 > 128\)`},

	// A leaf is signed for those with service:write, and then kept for everybody: who reaches a server's HTTP API can
	// read the keys that were read through it.
	{"a leaf without service:write", "other", "GET", "/v1/agent/connect/ca/leaf/fn", "", 403, `Permission denied: .*'service:write' on "fn"`},
	{"a leaf", "fn", "GET", "/v1/agent/connect/ca/leaf/fn", "", 200, `{"SerialNumber":.*"PrivateKeyPEM":.*}`},
	{"a kept leaf without a token", "none", "GET", "/v1/agent/connect/ca/leaf/fn", "", 200, `{"SerialNumber":.*"PrivateKeyPEM":.*}`},
	{"the roots", "none", "GET", "/v1/connect/ca/roots", "", 200, `{"ActiveRootID":".*","TrustDomain":".*\.consul","Roots":\[.*\]}`},
}

func TestConsulAnswers(t *testing.T) {
	t.Parallel()
	server := start(t, consulproc.Config{ACL: true})
	tokens := map[string]string{
		"":         server.Token(),
		"none":     "",
		"unknown":  "11111111-2222-3333-4444-555555555555",
		"operator": token(t, server, "operator", `operator = "read"`),
		"fn":       token(t, server, "fn", `service "fn" { policy = "write" } node_prefix "" { policy = "read" }`),
		"other":    token(t, server, "other", `service "other" { policy = "write" } node_prefix "" { policy = "read" }`),
	}
	for _, a := range answers {
		status, body, err := ask(t.Context(), server, question{a.method, a.path, tokens[a.token], a.body})
		ok(t, err)
		if status != a.status || !regexp.MustCompile(`^(?:`+a.want+`)$`).MatchString(strings.TrimSpace(body)) {
			t.Errorf("%s: %s %s: got %d %s, want %d %s", a.about, a.method, a.path, status, body, a.status, a.want)
		}
	}
}

// The server asks itself again for seconds: a client without peering:read that waits for the answer loses them.
func TestPeeringsAreRefusedSlowly(t *testing.T) {
	t.Parallel()
	long(t, "twelve seconds")
	server := start(t, consulproc.Config{ACL: true})
	began := time.Now()
	status, body, err := ask(t.Context(), server, question{method: "GET", path: "/v1/peerings"})
	ok(t, err)
	took := time.Since(began)
	t.Logf("refused after %v", took.Round(time.Millisecond))
	if status != http.StatusForbidden || !strings.Contains(body, "'peering:read'") || took < 5*time.Second {
		t.Errorf("got %d %s after %v", status, body, took)
	}
}

type question struct{ method, path, token, body string }

func ask(ctx context.Context, s *consulproc.Server, q question) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, "http://"+s.Addr()+q.path, strings.NewReader(q.body))
	if err != nil {
		return 0, "", err
	}
	if q.token != "" {
		req.Header.Set("X-Consul-Token", q.token)
	}
	resp, err := s.HTTPClient().Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", fmt.Errorf("%s %s: %w", q.method, q.path, err)
	}
	return resp.StatusCode, string(text), nil
}
