// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"maps"
	"time"
)

// summarise puts into the result what there is after the run, and returns the shortest life that a stored leaf was issued for; 0 if
// there is none.
func (a *applier) summarise() (shortest time.Duration) {
	documents := make(map[Key]stored)
	for _, h := range a.o.holdings() {
		documents[h.Key] = h.stored
	}
	maps.Copy(documents, a.documents)
	for k := range a.deleted {
		delete(documents, k)
	}
	a.result.Enabled = len(documents)
	now := a.now()
	for k, s := range documents {
		if s.version == 0 {
			continue
		}
		if left := s.notAfter.Sub(now); a.result.LeafOf == "" || left < a.result.LeafLeft {
			a.result.LeafLeft, a.result.LeafOf = left, k.String()
		}
		if life := s.notAfter.Sub(s.notBefore); shortest == 0 || life < shortest {
			shortest = life
		}
	}
	return shortest
}

// warnOfShortLeaves says, once in a process, that leaves are too short for how often they are looked at. Consul renews at 90 % of a
// leaf's life: what is left then has to last until the next run has seen it, the store has it and the extension has read it.
func (a *applier) warnOfShortLeaves(shortest time.Duration) {
	need := a.o.slack + 2*time.Minute
	if shortest <= 0 || shortest/10 >= need || a.memory.toldShort {
		return
	}
	a.memory.toldShort = true
	a.log.Warn("leaves are too short for this schedule: some may expire before they are renewed", "leaf_ttl", shortest,
		"schedule", a.cfg.Schedule, "refresh", a.cfg.Refresh,
		"remedy", fmt.Sprintf("set Consul's leaf_cert_ttl to %v or more, or a schedule and CONSUL_REFRESH_FREQUENCY of together less than %v",
			10*need, max(0, shortest/10-2*time.Minute)))
}
