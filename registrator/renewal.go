// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"time"
)

// When a leaf is asked for (G8). A plain read of Consul's leaf endpoint hands out what it has until 90 % of the leaf's life are over;
// a blocking watcher of the same server, or another server behind the same address, may have a newer one from 60 % on
// (agent/leafcert/util.go). So from 60 % an hourly question may be worth its cost, and from 85 % on each run asks, to catch the
// moment in which the 90 % are passed.
const (
	askFrom   = 0.60
	askAlways = 0.85
	renewedAt = 0.90
	askEvery  = time.Hour
)

// documentChange is what is to be done about a document.
type documentChange struct {
	path   string
	remove bool
	// must: whatever leaf Consul gives is written. Otherwise only one that lives longer than the one in hand.
	must   bool
	inputs string
}

// documentChange says what k's document needs, why, and how urgently; nil for nothing.
func (o *observation) documentChange(k Key, path string, s stored) (*documentChange, string, urgency) {
	c := &documentChange{path: path, must: true, inputs: inputs(path, o.roots.TrustDomain, o.peersOf(k))}
	left, life := s.notAfter.Sub(o.at), s.notAfter.Sub(s.notBefore)
	u := urgentRepair
	if s.version != 0 && left < 2*o.slack {
		u = urgentLeaf
	}
	if o.peerless[k.realm().Partition] && s.version != 0 && u != urgentLeaf {
		return nil, "", 0 // it would lose its peers; a leaf without peers is only better than none
	}
	switch lost := o.documents.lost(path, s); {
	case s.version == 0:
		return c, "it has no document", u
	case s.roots != o.roots.metaID():
		return c, "the root certificates changed", min(u, urgentRoots)
	case s.inputs != c.inputs:
		return c, "the peers, the trust domain or the path of its document changed", u
	case o.unsettled[path] > s.version:
		return c, "a run that lost a race wrote over its document", u
	case lost != "":
		return c, lost, u
	}
	c.must = false
	used := float64(o.at.Sub(s.notBefore)) / float64(life)
	if used < askFrom || used < askAlways && o.at.Sub(o.asked[k]) < askEvery {
		return nil, "", 0
	}
	if u != urgentLeaf {
		u = urgentRenewal
	}
	return c, fmt.Sprintf("%.0f %% of its leaf's life are over", 100*used), u
}

// settle is how long the store's listing may lag behind a write: younger documents are not judged by it. UNCONFIRMED by AWS, which
// promises nothing; the cost of a long one is only that damage is seen that much later.
const settle = 5 * time.Minute

// lost says what the store shows to be wrong with a document that the meta describes; "" for nothing, or if it does not show that.
func (l look) lost(path string, s stored) string {
	if !s.written.Before(l.from.Add(-settle)) {
		return ""
	}
	switch seen, ok := l.seen[path]; {
	case ok && seen.Version != s.version:
		return fmt.Sprintf("somebody else wrote version %d of its document", seen.Version)
	case !ok && l.whole:
		return "its document is gone"
	}
	return ""
}

// share returns when that share of a leaf's life is over.
func share(s stored, part float64) time.Time {
	return s.notBefore.Add(time.Duration(part * float64(s.notAfter.Sub(s.notBefore))))
}
