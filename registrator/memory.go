// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"maps"
	"time"
)

// lookEvery is the pause between two whole looks at the store, and the age at which what about never changes is read anew: the list of
// datacenters, and whether the token may see peerings.
const lookEvery = 6 * time.Hour

// memory is what a process keeps from run to run. All of it may be lost: it saves calls, and makes a run more careful (G7). The zero
// value remembers nothing.
type memory struct {
	datacenters   []string
	datacentersAt time.Time
	peersDenied   map[string]time.Time // partitions whose peerings the token may not see, and when that was found
	from          string               // where the listing of functions goes on
	token         string               // where the rotation through the store goes on
	pages         map[string]Stored    // what the rotation has seen so far
	pagesFrom     time.Time            // when it began
	looked        time.Time            // the last whole look
	lookAgain     bool                 // whatever the heartbeat says of the last look
	recent        map[string]time.Time // functions that were read by themselves
	confirmed     string               // the last function in turn that was confirmed
	taken         map[string]time.Time // functions that lost something, and when: for the cap (G7)
	asked         map[Key]time.Time    // when Consul was last asked for this leaf
	toldShort     bool                 // that leaves are too short
	unsettled     map[string]int64     // by path: versions of documents that were stored without their commit in the catalog
}

// clone returns a copy whose maps can be written to: a run that observes and then fails, or only plans, leaves no trace in memory.
func (m memory) clone() memory {
	m.peersDenied, m.pages, m.recent = copied(m.peersDenied), copied(m.pages), copied(m.recent)
	m.taken, m.unsettled, m.asked = copied(m.taken), copied(m.unsettled), copied(m.asked)
	return m
}

// takenWithin returns the functions that lost something less than a schedule ago, and forgets the others.
func (m *memory) takenWithin(schedule time.Duration, now time.Time) map[string]bool {
	maps.DeleteFunc(m.taken, func(_ string, at time.Time) bool { return now.Before(at) || now.Sub(at) >= schedule })
	taken := make(map[string]bool, len(m.taken))
	for name := range m.taken {
		taken[name] = true
	}
	return taken
}

// copied returns a copy that can be written to, of a nil map too.
func copied[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m))
	maps.Copy(c, m)
	return c
}
