// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"maps"
	"time"
)

const (
	// lookEvery is the pause between two whole looks at the store, and the age at which the list of datacenters is read anew.
	lookEvery = 6 * time.Hour

	// doubt is how long a listing is not believed about a function that was read by itself: the tagging API promises no time by which
	// a change shows, and must not undo what an event's run has just done.
	doubt = 15 * time.Minute

	// confirmBudget is how many functions are read to confirm what a listing does not show, where the listing is known to be a part
	// only: without the tagging API that is most of what is registered, and each run takes its turn at some.
	confirmBudget = 50
)

// memory is what a process keeps from run to run. All of it may be lost: it saves calls, and decides nothing. The zero value
// remembers nothing.
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
	unsettled     map[string]int64     // by path: versions of documents that were stored without their commit in the catalog
}

// copied returns a copy that can be written to.
func copied[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m))
	maps.Copy(c, m)
	return c
}

// askedBefore returns when Consul was asked for which leaf.
func (r *Registrator) askedBefore() map[Key]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.asked)
}

func (r *Registrator) askedNow(k Key, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[k] = at
}
