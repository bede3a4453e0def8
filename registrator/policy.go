// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"maps"
	"slices"
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

// holdDeletes takes the deletes out of the plan if none may be made, says why, and keeps alive what they are about, as they may be a
// mistake (G7).
func (p *planner) holdDeletes() {
	why := p.forbids()
	if why == "" {
		return
	}
	p.plan.Changes = slices.DeleteFunc(p.plan.Changes, func(c Change) bool {
		if c.Kind == Delete {
			p.plan.Held = append(p.plan.Held, Note{c.Name, why + c.Reason})
		}
		return c.Kind == Delete
	})
	for _, h := range p.held {
		if !p.planned[h.Key.fold()] && p.released(h.Key, h.function.Name()) {
			p.alive(h)
		}
	}
}

// forbids says why no delete may be made; "" if they may.
func (p *planner) forbids() string {
	if p.policy == UpsertOnly {
		return "the policy is upsert-only: "
	}
	losing, limit := p.losing()
	p.plan.OverCap = losing > limit
	switch {
	case len(p.unread) > 0:
		return "not all of Consul could be read: "
	case p.plan.OverCap:
		return fmt.Sprintf("%d functions would lose what they have, at most %d may in one run and the events around it (CONSUL_LAMBDA_MAX_DELETES): ",
			losing, limit)
	}
	return ""
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
