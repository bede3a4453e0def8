// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Plan is what a run would do, most urgent first, and what it has to say.
type Plan struct {
	Changes []Change `json:"changes,omitempty"`
	// More is how many changes an answer to a dry run leaves out, after these; else 0.
	More int `json:"more,omitempty"`
	// Warnings are mistakes of users and conflicts with what others own: nothing was planned about these.
	Warnings []Note `json:"warnings,omitempty"`
	// Failures are what could not be read: nothing was planned about these.
	Failures []Note `json:"failures,omitempty"`
	// Held are changes that are not made, because of the policy or of the cap on deletes.
	Held []Note `json:"held,omitempty"`
	// OverCap says that the plan has more deletes than a run may make. All of them are held.
	OverCap bool `json:"overCap,omitempty"`

	owned int // services that are ours today
}

// Change is one change of a plan. Its exported fields are for people; they hold no secret.
type Change struct {
	Kind     Kind         `json:"kind"`
	Name     string       `json:"name"`               // of the service, or of the document without a service
	Function string       `json:"function,omitempty"` // the ARN that is invoked; "" where none is known
	Reason   string       `json:"reason"`
	Diff     []Difference `json:"diff,omitempty"`

	urgency  urgency
	key      Key
	by       string // the function that asks for it
	realm    Realm  // of a node
	node     *Node  // to be put
	entry    *Defaults
	without  bool // entry is to be deleted
	instance *Instance
	differs  bool   // instance is to be put even if no document is written
	stored   stored // what the instance says of its document today
	document *documentChange
}

// Kind is what a change does.
type Kind string

// The kinds of changes.
const (
	Create Kind = "create" // registers a service, or makes the node that carries them
	Update Kind = "update" // repairs or changes what is registered
	Renew  Kind = "renew"  // makes the credential document anew, or asks whether that can be done yet
	Delete Kind = "delete"
)

// Difference is one field that a change changes. "" is a field that is not there.
type Difference struct {
	Field  string `json:"field"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Note says something of a service or a function.
type Note struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// urgency orders a plan (G9): what would fail first comes first, and deletes come after all else (G7).
type urgency int

const (
	urgentNode    urgency = iota // nothing can be registered without it
	urgentLeaf                   // nearly out
	urgentRoots                  // peers may refuse the old leaf soon, or present what the old roots do not vouch for
	urgentCreate                 // somebody waits for it
	urgentRepair                 // it was otherwise than it should be for a while
	urgentRenewal                // it is past 60 % of its life: Consul may have a newer one
	urgentDelete
)

// Empty says whether there is nothing to change.
func (p Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Held) == 0 }

// String returns the plan for people, a line for each change and each field of it.
func (p Plan) String() string {
	var b strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "%-7s %s: %s\n", c.Kind, c.Name, c.Reason)
		for _, d := range c.Diff {
			fmt.Fprintf(&b, "          %s: %s -> %s\n", d.Field, shown(d.Before), shown(d.After))
		}
	}
	if p.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", p.More)
	}
	for _, group := range []struct {
		word  string
		notes []Note
	}{{"held", p.Held}, {"warning", p.Warnings}, {"failure", p.Failures}} {
		for _, n := range group.notes {
			fmt.Fprintf(&b, "%-7s %s: %s\n", group.word, n.Name, n.Text)
		}
	}
	switch {
	case len(p.Failures) > 0:
		b.WriteString("incomplete: nothing could be planned for what failed\n")
	case p.Empty():
		b.WriteString("nothing to change\n")
	}
	return b.String()
}

func shown(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// sort puts a plan into the one order that it has: changes by urgency and, among equals, the leaf that runs out first.
func (p *Plan) sort() {
	slices.SortFunc(p.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.urgency, b.urgency), a.stored.notAfter.Compare(b.stored.notAfter), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Reason, b.Reason))
	})
	for _, notes := range [][]Note{p.Warnings, p.Failures, p.Held} {
		slices.SortFunc(notes, func(a, b Note) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Text, b.Text)) })
	}
}
