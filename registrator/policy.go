// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"strings"
)

// Policy says which changes of a plan are made. The zero value is Sync.
type Policy int

// The policies.
const (
	Sync       Policy = iota // all
	UpsertOnly               // none that deletes
	DryRun                   // none
)

var policyNames = [...]string{Sync: "sync", UpsertOnly: "upsert-only", DryRun: "dry-run"}

// ParsePolicy reads "sync", "upsert-only" or "dry-run"; "" is Sync.
func ParsePolicy(s string) (Policy, error) {
	for p, name := range policyNames {
		if s == name {
			return Policy(p), nil
		}
	}
	if s == "" {
		return Sync, nil
	}
	return 0, fmt.Errorf("policy %q: want %s", s, strings.Join(policyNames[:], ", "))
}

// String returns the name that ParsePolicy reads.
func (p Policy) String() string {
	if p < 0 || int(p) >= len(policyNames) {
		return fmt.Sprintf("Policy(%d)", int(p))
	}
	return policyNames[p]
}

// deleteCap is how many deletes one run may make (G7): what is configured, or else a fifth of what is owned and at least five. A
// mistake in one place, such as a lost tag on a template, then shows as a failed run instead of an outage.
func deleteCap(configured, owned int) int {
	if configured > 0 {
		return configured
	}
	return max(5, owned/5)
}
