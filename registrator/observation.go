// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"slices"
	"strings"
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
	namesakes map[folded][]Namesake // on other nodes, in all datacenters: asked where something is to be created only
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

// holding is a service of ours as it is registered.
type holding struct {
	Instance
	function ARN    // zero: the meta does not say
	alias    string // of function
	adopted  bool   // from the predecessor, by this run
	stored   stored
}

// inScope says whether the run looks at that function.
func (o *observation) inScope(name string) bool {
	return o.scope.full() || slices.Contains(o.scope.Functions, name)
}

// hold says whose the service-defaults entry of k is, with what is wrong with one that cannot be read.
func (o *observation) hold(k Key) (entry, hold, error) {
	d, ok := o.entries[k.fold()]
	if !ok {
		return newEntry(k), holdNone, nil
	}
	e, err := readEntry(d.Raw)
	if err != nil {
		return entry{}, holdForeign, err
	}
	return e, e.hold(o.owner), nil
}

// holdings finds the services that are ours (G5): on our node, with our owner in the meta. One of the predecessor has our tag and no
// owner in the meta; it is ours if its service-defaults invoke a function of our account and region, for two accounts may share the
// node.
func (o *observation) holdings() map[folded]holding {
	found := make(map[folded]holding)
	for k, instances := range o.instances {
		for _, i := range instances {
			if h, ok := o.holding(i); ok {
				// Two are possible only if somebody copied one of ours: the one with the service's own name is kept up.
				if _, taken := found[k]; !taken || strings.EqualFold(i.ID, k.Service.Name()) {
					found[k] = h
				}
			}
		}
	}
	return found
}

func (o *observation) holding(i Instance) (holding, bool) {
	h := holding{Instance: i, stored: readStored(i.Meta)}
	switch owner := i.Meta[metaOwner]; owner {
	case o.owner.String():
		if function, alias, err := ParseQualifiedARN(i.Meta[metaFunction]); err == nil && function.Owner() == o.owner {
			h.function, h.alias = function, alias
		}
		return h, true
	case "":
		if !slices.Contains(i.Tags, ServiceTag) {
			return holding{}, false
		}
		e, whose, _ := o.hold(i.Key)
		function, alias := e.arn()
		if whose != holdLegacy && whose != holdOurs || function.IsZero() {
			return holding{}, false
		}
		h.function, h.alias, h.adopted, h.stored = function, alias, true, stored{}
		return h, true
	}
	return holding{}, false
}

// remnants finds the service-defaults that are marked as ours and belong to no service of ours: what a run left that did not get to
// its end.
func (o *observation) remnants(held map[folded]holding) map[Key]ARN {
	found, heldAnywhere := make(map[Key]ARN), make(map[mesh.Service]bool)
	for k := range held {
		heldAnywhere[k.Service] = true
	}
	for k, d := range o.entries {
		if heldAnywhere[k.Service] {
			continue
		}
		if e, whose, _ := o.hold(d.Key); whose == holdOurs {
			if function, _ := e.arn(); !function.IsZero() {
				found[d.Key] = function
			}
		}
	}
	return found
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

// strays finds the documents for which there is no service, by path, those that no registrator wrote included. It is asked of a whole
// look at the store, and of all of Consul, only.
func (o *observation) strays(held map[folded]holding, wishes map[string]wish) map[string]Stored {
	if !o.documents.whole || !o.documents.orphans || !o.scope.full() || len(o.unread) > 0 {
		return nil
	}
	used := make(map[string]bool)
	for _, h := range held {
		if path, err := h.Service.ParameterPath(o.place.prefix); err == nil && h.alias == "" {
			used[path] = true
		}
	}
	for _, w := range wishes {
		for _, r := range w.records {
			used[r.Document] = true
		}
	}
	found := make(map[string]Stored)
	for path, s := range o.documents.seen {
		parts := strings.Split(strings.TrimPrefix(path, o.place.prefix+"/"), "/")
		if used[path] || len(parts) != 3 || !slices.Contains(o.place.partitions, unlessDefault(parts[0])) || !functionPattern.MatchString(parts[2]) {
			continue
		}
		found[path] = s
	}
	return found
}

// strayName is the function that a stray document was for.
func strayName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
