// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"encoding/base64"
	"encoding/json"
	"slices"
)

// cursor is where a page of a listing begins. Listings are in the order of names, so that what comes and goes between
// two pages neither hides nor repeats anything else.
type cursor struct {
	page  int    // from 1 on
	after string // the last name that an earlier page looked at; "": none
	bad   bool   // it was made from a token that is none of ours
}

type wireCursor struct {
	Page  int
	After string
}

// token is what the client is given to ask for the page after this one, which ended at last.
func (c cursor) token(last string) string {
	b, _ := json.Marshal(wireCursor{c.page + 1, last}) // a number and a string always can be
	return base64.URLEncoding.EncodeToString(b)
}

// openCursor reads a token. The empty one is the first page.
func openCursor(token string) cursor {
	if token == "" {
		return cursor{page: 1}
	}
	raw, err := base64.URLEncoding.DecodeString(token)
	var w wireCursor
	if err != nil || json.Unmarshal(raw, &w) != nil || w.Page < 2 {
		return cursor{bad: true}
	}
	return cursor{page: w.Page, after: w.After}
}

// rest is what of sorted names has not been looked at.
func (c cursor) rest(sorted []string) []string {
	i, found := slices.BinarySearch(sorted, c.after)
	if found {
		i++
	}
	return sorted[i:]
}
