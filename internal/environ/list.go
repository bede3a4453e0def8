// SPDX-License-Identifier: MPL-2.0

package environ

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// List is a variable that is a list of values, separated by commas.
type List[T comparable] struct {
	Name     string
	Accepted string // for people
	Parse    func(string) (T, error)
}

// From reads each entry. One that is there twice counts once, with a warning; nil if the variable is not set.
func (l List[T]) From(r *Reader) []T {
	var values []T
	for _, entry := range l.Split(r) {
		value, err := l.Parse(entry)
		switch {
		case err != nil:
			r.Refuse(Wrong{l.Name, entry, err, l.Accepted})
		case slices.Contains(values, value):
			r.warn(fmt.Sprintf("%s: %q is there twice; it counts once", l.Name, entry))
		default:
			values = append(values, value)
		}
	}
	return values
}

// Split returns the entries unread. An empty list has none; one comma after the last is ignored.
func (l List[T]) Split(r *Reader) []string {
	list := r.Value(l.Name)
	if list == "" {
		return nil
	}
	all := strings.Split(strings.TrimSuffix(list, ","), ",")
	var some []string
	for _, entry := range all {
		if entry = strings.TrimSpace(entry); entry != "" {
			some = append(some, entry)
		}
	}
	if len(some) < len(all) {
		r.Refuse(Wrong{l.Name, list, errors.New("has an empty entry"), l.Accepted})
	}
	return some
}
