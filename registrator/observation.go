// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"slices"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// observation is everything that a plan is made of. Nothing of it is inferred: what could not be read is not in it, is named in
// unread or by a failure, and must not be taken for absence (G2).
type observation struct {
	at         time.Time
	owner      Owner
	node       string
	place      placement
	scope      Scope
	policy     Policy
	maxDeletes int           // 0: the default
	slack      time.Duration // how long a new leaf takes at most to get to a function: schedule + refresh

	functions map[string]sight // by name; a function that is not here was not looked at
	nodes     map[Realm]Node
	instances map[folded][]Instance
	entries   map[folded]Defaults
	namesakes map[folded][]namesake // on other nodes, in all datacenters: asked where something is to be created only
	unasked   map[folded]error      // why that could not be asked of these: nothing is done about them
	roots     Roots
	peers     map[string][]mesh.DocumentPeer // by partition
	documents look
	unread    map[Realm]error   // realms of which nothing is known: nothing is done there, and nothing is deleted anywhere
	peerless  map[string]bool   // partitions whose peerings could not be read: their documents stay as they are while they may
	failures  []Note            // what else could not be read
	asked     map[Key]time.Time // when Consul was last asked for this leaf
	taken     map[string]bool   // functions that lost something within the last schedule, as far as this process remembers
	unsettled map[string]int64  // by path: versions of documents that were stored without their commit in the catalog
}

// namesake is one with the datacenter in which it was found.
type namesake struct {
	Namesake
	datacenter string
}

// sight is what is known of a function.
type sight struct {
	function  Function
	confirmed bool  // read by itself, not from a listing that may lag
	gone      bool  // AWS says that there is none of that name; always confirmed
	err       error // it could not be read: nothing is known
}

// look is what was seen of the store of documents.
type look struct {
	seen map[string]Stored // by path
	from time.Time         // when it began
	// whole: seen has all that was stored when the look began. It need not have been one run's.
	whole bool
	// orphans: this run also looks for documents that nobody owns.
	orphans bool
}

// inScope says whether the run looks at that function.
func (o *observation) inScope(name string) bool {
	return o.scope.full() || slices.Contains(o.scope.Functions, name)
}

// wishes reads the tags of every function that is known.
func (o *observation) wishes() map[string]wish {
	found := make(map[string]wish, len(o.functions))
	for name, s := range o.functions {
		switch {
		case s.err != nil || !o.inScope(name):
		case s.gone:
			found[name] = wish{why: "AWS has no such function"}
		default:
			found[name] = o.place.wish(s.function)
		}
	}
	return found
}
