// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"fmt"
	"net/http"
	"strings"
)

// A Token is somebody who may call.
type Token struct {
	// SecretID is what a request carries. Empty: the anonymous token, of requests
	// that carry none.
	SecretID string
	// AccessorID is how errors name the token.
	AccessorID string
	// Rules allow; what none of them allows is denied.
	Rules []Rule
}

// A Rule allows one kind of access to some names.
type Rule struct {
	// Resource is "node", "service", "key", "agent", "peering" or, for
	// proxy-defaults, "mesh".
	Resource string
	// Name is a prefix, or with Exact the whole name. An empty prefix is every name.
	Name  string
	Exact bool
	// Write allows writing as well as reading.
	Write bool
}

const (
	resourceNode    = "node"
	resourceService = "service"
	resourceKey     = "key"
	resourceAgent   = "agent"
	resourcePeering = "peering"
	resourceMesh    = "mesh"
)

type access string

const (
	read  access = "read"
	write access = "write"
)

// anonymousID is the accessor of the anonymous token in every Consul.
const anonymousID = "00000000-0000-0000-0000-000000000002"

var (
	// denied is the denial that does not say of what.
	denied        = &failure{http.StatusForbidden, "Permission denied"}
	tokenNotFound = &failure{http.StatusForbidden, "ACL not found"}
)

// authorizer decides for one request. The zero value allows everything.
type authorizer struct{ token *Token }

// authorize finds the request's token: ?token=, then X-Consul-Token, then a
// bearer token.
func (x *exchange) authorize() (authorizer, error) {
	if len(x.s.cfg.Tokens) == 0 {
		return authorizer{}, nil
	}
	secret := x.query.Get("token")
	if secret == "" {
		secret = x.r.Header.Get("X-Consul-Token")
	}
	if secret == "" {
		if scheme, value, _ := strings.Cut(x.r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "bearer") {
			secret = strings.TrimSpace(value)
		}
	}
	for i := range x.s.cfg.Tokens {
		if t := &x.s.cfg.Tokens[i]; t.SecretID == secret {
			return authorizer{t}, nil
		}
	}
	if secret == "" {
		return authorizer{&Token{AccessorID: anonymousID}}, nil
	}
	return authorizer{}, tokenNotFound
}

// need returns nil, or the denial in Consul's words.
func (a authorizer) need(resource string, want access, name string) error {
	if a.token == nil || a.token.allows(resource, want, name) {
		return nil
	}
	who, hint := fmt.Sprintf("token with AccessorID '%s'", a.token.AccessorID), ""
	if a.token.SecretID == "" {
		who = "anonymous token"
		hint = ". The anonymous token is used implicitly when a request does not specify a token."
	}
	on := ""
	if name != "" {
		on = fmt.Sprintf(" on %q", name)
	}
	return &failure{http.StatusForbidden,
		fmt.Sprintf("Permission denied: %s lacks permission '%s:%s'%s%s", who, resource, want, on, hint)}
}

func (t *Token) allows(resource string, want access, name string) bool {
	for _, r := range t.Rules {
		switch {
		case r.Resource != resource || want == write && !r.Write:
		case r.Exact && r.Name == name, !r.Exact && strings.HasPrefix(name, r.Name):
			return true
		}
	}
	return false
}
