// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"context"
	"maps"
)

// store looks at a page of what is stored, or at all of it when that is due (G4). An event's run does not look.
func (v *observer) store(ctx context.Context) error {
	if v.cfg.DataPrefix == "" || !v.scope.full() {
		return nil
	}
	looked := v.mem.looked
	for _, n := range v.nodes {
		if h := readHeartbeat(n, v.owner); h.Looked.After(looked) {
			looked = h.Looked
		}
	}
	age := v.at.Sub(looked)
	v.documents.orphans = v.mem.lookAgain || age < 0 || age >= lookEvery
	v.mem.looked = looked
	if v.documents.orphans {
		v.mem.token = ""
	}
	for first := true; first || v.documents.orphans && v.mem.token != ""; first = false {
		if v.mem.token == "" {
			v.mem.pages, v.mem.pagesFrom = make(map[string]Stored), v.at
		} else if first {
			v.mem.pages = maps.Clone(v.mem.pages)
		}
		page, next, err := v.cfg.Documents.Page(ctx, v.mem.token)
		if err != nil {
			v.mem.token, v.documents = "", look{} // a token that is not valid any more must not fail every run
			v.failures = append(v.failures, Note{"store", "looking at the store: " + err.Error()})
			return nil
		}
		v.documents.seen, v.documents.from = make(map[string]Stored, len(page)), v.at
		for _, s := range page {
			v.documents.seen[s.Path], v.mem.pages[s.Path] = s, s
		}
		v.mem.token = next
	}
	if v.mem.token == "" {
		v.documents.seen, v.documents.from, v.documents.whole = v.mem.pages, v.mem.pagesFrom, true
	}
	if v.documents.orphans {
		v.mem.looked, v.mem.lookAgain = v.at, false
	}
	return nil
}
