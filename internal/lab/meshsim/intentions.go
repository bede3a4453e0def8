// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"strings"
	"sync"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Action is the answer of an intention.
type Action int

// The two answers; the zero value lets in.
const (
	Allow Action = iota
	Deny
)

// Intentions decides which sources may connect to a destination. The zero
// value allows all; it is safe for concurrent use and may be shared. A change
// is seen by the next connection, never by one that was already let in.
type Intentions struct {
	mu    sync.Mutex
	other Action
	rules map[string]Action
}

// SetDefault sets the answer for sources without a rule of their own.
func (in *Intentions) SetDefault(a Action) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.other = a
}

// Set gives source a rule of its own, in place of an earlier one.
func (in *Intentions) Set(source mesh.ID, a Action) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.rules == nil {
		in.rules = make(map[string]Action)
	}
	in.rules[ruleKey(source)] = a
}

// Unset removes the rule of source.
func (in *Intentions) Unset(source mesh.ID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.rules, ruleKey(source))
}

// Check returns the answer for source.
func (in *Intentions) Check(source mesh.ID) Action {
	in.mu.Lock()
	defer in.mu.Unlock()
	if a, ok := in.rules[ruleKey(source)]; ok {
		return a
	}
	return in.other
}

// ruleKey returns id with its datacenter left out: Consul's rules match any
// ("Datacenter is not verified by RBAC", agent/xds/rbac.go).
func ruleKey(id mesh.ID) string {
	u := id.URL()
	parts := strings.Split(strings.ToLower(u.Path), "/")
	for i := 1; i+1 < len(parts); i += 2 { // the path is /key/value/key/value
		if parts[i] == "dc" {
			parts[i+1] = "*"
		}
	}
	return u.Host + strings.Join(parts, "/")
}
