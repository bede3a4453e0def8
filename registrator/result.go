// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Result is what a run did. Counts are of services, and of documents that belonged to none.
type Result struct {
	Created int `json:"created"`
	Updated int `json:"updated"`
	Renewed int `json:"renewed"` // documents that were made anew
	Deleted int `json:"deleted"`
	Skipped int `json:"skipped"` // len(Left)
	Failed  int `json:"failed"`  // len(Failures)
	Warned  int `json:"warned"`  // len(Warnings)

	// Partial says that something could not be read, which Failures names, and was left out.
	Partial bool `json:"partial,omitempty"`

	// Enabled is how many services are ours after the run.
	Enabled int `json:"enabled"`
	// LeafLeft is the smallest remaining life of a stored leaf, that of LeafOf; 0 with LeafOf "" if there is none. It is encoded as
	// a string.
	LeafLeft time.Duration `json:"-"`
	LeafOf   string        `json:"leafOf,omitempty"`

	// Changed names what was changed: "create web".
	Changed []string `json:"changed,omitempty"`
	// Left are changes that were not made: held by the policy or by the cap, or the time was up. The next run sees them again.
	Left []Note `json:"left,omitempty"`
	// Failures are what went wrong on our side, or on AWS's or Consul's.
	Failures []Note `json:"failures,omitempty"`
	// Warnings are mistakes of users and conflicts with what others own: no reason for a red run.
	Warnings []Note `json:"warnings,omitempty"`
	// Plan is set in a dry run, with no more than 2,000 changes, as Lambda takes 6 MB for an answer: Plan.More counts the others.
	// What else the plan says is in Left, Failures and Warnings.
	Plan *Plan `json:"plan,omitempty"`

	overCap bool
}

// made names and counts a change that was made.
func (r *Result) made(c Change) {
	r.Changed = append(r.Changed, string(c.Kind)+" "+c.Name)
	switch {
	case c.node != nil: // counts are of services
	case c.Kind == Create:
		r.Created++
	case c.Kind == Update:
		r.Updated++
	case c.Kind == Renew:
		r.Renewed++
	case c.Kind == Delete:
		r.Deleted++
	}
}

// count sets the counts that are lengths.
func (r *Result) count() {
	r.Skipped, r.Failed, r.Warned = len(r.Left), len(r.Failures), len(r.Warnings)
}

// add takes in what an earlier part of the same run has done.
func (r *Result) add(earlier Result) {
	r.Created += earlier.Created
	r.Updated += earlier.Updated
	r.Renewed += earlier.Renewed
	r.Deleted += earlier.Deleted
	r.Changed = slices.Concat(earlier.Changed, r.Changed)
	r.Left, r.Failures, r.Warnings = joined(earlier.Left, r.Left), joined(earlier.Failures, r.Failures), joined(earlier.Warnings, r.Warnings)
	r.overCap = r.overCap || earlier.overCap
}

// joined returns the notes of both, each once.
func joined(a, b []Note) []Note {
	all := slices.Clone(a)
	for _, n := range b {
		if !slices.Contains(a, n) {
			all = append(all, n)
		}
	}
	return all
}

// err returns nil if nothing failed. Otherwise it wraps ErrFailed, or ErrDeletes if the cap on deletes stopped them, and names what
// failed.
func (r Result) err() error {
	var errs []error
	if r.overCap {
		errs = append(errs, fmt.Errorf("%w: %s", ErrDeletes, listed(r.Left)))
	}
	if len(r.Failures) > 0 {
		errs = append(errs, fmt.Errorf("%w: %s", ErrFailed, listed(r.Failures)))
	}
	return errors.Join(errs...)
}

// maxListed bounds a line of a log: CloudWatch cuts one at 256 KiB, and people sooner. The rest is in the result.
const maxListed = 20

func listed(notes []Note) string {
	var texts []string
	for i, n := range notes {
		if i == maxListed {
			texts = append(texts, fmt.Sprintf("and %d more", len(notes)-i))
			break
		}
		texts = append(texts, n.Name+": "+n.Text)
	}
	return strings.Join(texts, "; ")
}

// MarshalJSON writes LeafLeft as a Go duration.
func (r Result) MarshalJSON() ([]byte, error) {
	type plain Result
	left := ""
	if r.LeafOf != "" {
		left = r.LeafLeft.String()
	}
	return json.Marshal(struct {
		plain
		LeafLeft string `json:"leafLeft,omitempty"`
	}{plain(r), left})
}

// LogValue returns the result as one group, with no more than 20 names of each kind.
func (r Result) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.Int("created", r.Created), slog.Int("updated", r.Updated), slog.Int("renewed", r.Renewed), slog.Int("deleted", r.Deleted),
		slog.Int("skipped", r.Skipped), slog.Int("failed", r.Failed), slog.Int("warned", r.Warned), slog.Int("enabled", r.Enabled),
	}
	if r.LeafOf != "" {
		attrs = append(attrs, slog.String("leaf_left", r.LeafLeft.Round(time.Second).String()), slog.String("leaf_of", r.LeafOf))
	}
	var planned []Note
	if r.Plan != nil {
		attrs = append(attrs, slog.Int("planned", len(r.Plan.Changes)+r.Plan.More))
		for _, c := range r.Plan.Changes[:min(maxListed, len(r.Plan.Changes))] {
			planned = append(planned, Note{c.Name, string(c.Kind) + ": " + c.Reason})
		}
	}
	for _, group := range []struct {
		key   string
		notes []Note
	}{{"plan", planned}, {"left", r.Left}, {"failures", r.Failures}, {"warnings", r.Warnings}} {
		if len(group.notes) > 0 {
			attrs = append(attrs, slog.String(group.key, listed(group.notes)))
		}
	}
	return slog.GroupValue(attrs...)
}
