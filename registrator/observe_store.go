// SPDX-License-Identifier: MPL-2.0

package registrator

import "context"

// store looks at a page of what is stored, the next one in a rotation through all of it, or at all of it when that is due (G4). An
// event's run does not look.
func (v *observer) store(ctx context.Context) error {
	if v.cfg.DataPrefix == "" || !v.scope.full() {
		return nil
	}
	whole := v.wholeLookDue()
	if whole {
		v.mem.token = "" // a rotation begins with it
	}
	for first := true; first || whole && v.mem.token != ""; first = false {
		if err := v.page(ctx); err != nil {
			v.mem.token, v.documents = "", look{} // a token that is not valid any more must not fail every run
			v.failures = append(v.failures, Note{"store", "looking at the store: " + err.Error()})
			return nil
		}
	}
	if v.mem.token == "" { // the rotation has come round
		v.documents = look{seen: v.mem.pages, from: v.mem.pagesFrom, whole: true}
	}
	if v.documents.orphans = whole; whole {
		v.mem.looked, v.mem.lookAgain = v.at, false
	}
	return nil
}

// wholeLookDue says whether the last whole look, of this process or of one that wrote a heartbeat, is long ago, or missed something.
func (v *observer) wholeLookDue() bool {
	for _, n := range v.nodes {
		if h := readHeartbeat(n, v.owner); h.Looked.After(v.mem.looked) {
			v.mem.looked = h.Looked
		}
	}
	age := v.at.Sub(v.mem.looked)
	return v.mem.lookAgain || age < 0 || age >= lookEvery
}

// page looks at the next page, and adds it to what the rotation has seen.
func (v *observer) page(ctx context.Context) error {
	if v.mem.token == "" {
		v.mem.pages, v.mem.pagesFrom = make(map[string]Stored), v.at
	}
	page, next, err := v.cfg.Documents.Page(ctx, v.mem.token)
	if err != nil {
		return err
	}
	v.documents = look{seen: make(map[string]Stored, len(page)), from: v.at}
	for _, s := range page {
		v.documents.seen[s.Path], v.mem.pages[s.Path] = s, s
	}
	v.mem.token = next
	return nil
}
