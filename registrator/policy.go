// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"maps"
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

// String returns "sync", "upsert-only" or "dry-run".
func (p Policy) String() string {
	if p < 0 || int(p) >= len(policyNames) {
		return fmt.Sprintf("Policy(%d)", int(p))
	}
	return policyNames[p]
}

// losing counts the functions that lose something by this plan, with those that have within the last schedule, and says how many may.
// The latter are what this process remembers: that makes the cap stricter, so that it holds for forty events as for one run, and
// never wider.
func (p *planner) losing() (functions, limit int) {
	lost, registered := maps.Clone(p.taken), maps.Clone(p.taken)
	planned := false
	for _, c := range p.plan.Changes {
		if c.Kind == Delete {
			lost[c.by], planned = true, true
		}
	}
	for _, h := range p.held {
		registered[h.function.Name()] = true
	}
	if !planned {
		return 0, 0
	}
	return len(lost), deleteCap(p.maxDeletes, len(registered))
}

// deleteCap is how many functions may lose a service, or a document, in one run and the events around it (G7): what is configured, or
// else a fifth of those that are registered and at least five. Functions are counted, not services: one with many aliases is one
// decision. A mistake in one place, such as a lost tag on a template, then shows as a failed run instead of an outage.
func deleteCap(configured, registered int) int {
	if configured > 0 {
		return configured
	}
	return max(5, registered/5)
}
