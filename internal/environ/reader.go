// SPDX-License-Identifier: MPL-2.0

package environ

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Reader reads an environment and collects what is wrong with it. New makes one; it is for one goroutine.
type Reader struct {
	env      map[string]string
	asked    map[string]bool // the variables that were asked for
	errs     []error
	warnings []string
}

// New returns a reader of an environment in the form of os.Environ.
func New(environ []string) *Reader {
	r := &Reader{env: make(map[string]string, len(environ)), asked: make(map[string]bool)}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if _, ok := r.env[name]; !ok { // the first counts, as for os.Getenv
			r.env[name] = strings.TrimSpace(value)
		}
	}
	return r
}

// Value returns a variable's value, "" if it is not set.
func (r *Reader) Value(name string) string {
	r.asked[name] = true
	return r.env[name]
}

// Required is Value, and an error if that is not set.
func (r *Reader) Required(name, accepted string) string {
	v := r.Value(name)
	if v == "" {
		r.errs = append(r.errs, fmt.Errorf("%s: not set; accepted: %s", name, accepted))
	}
	return v
}

// Refuse notes what is wrong with a variable's value, or with one entry of it.
func (r *Reader) Refuse(w Wrong) { r.errs = append(r.errs, w) }

// Check notes err, each of whose lines says the value and what is accepted, unless it is nil.
func (r *Reader) Check(name string, err error) {
	if err != nil {
		r.errs = append(r.errs, errors.New(name+": "+strings.ReplaceAll(err.Error(), "\n", "\n"+name+": ")))
	}
}

// warn notes a sentence for the log, which names its variable.
func (r *Reader) warn(sentence string) { r.warnings = append(r.warnings, sentence) }

// WarnUnread warns of each variable whose name begins with prefix and that was never asked for: a slip of the pen, or
// a setting of another version.
func (r *Reader) WarnUnread(prefix string) {
	for _, name := range slices.Sorted(maps.Keys(r.env)) {
		if strings.HasPrefix(name, prefix) && !r.asked[name] {
			r.warn(name + ": not a setting of this version; it is ignored")
		}
	}
}

// Err joins all that is wrong, one line each; nil if nothing is.
func (r *Reader) Err() error { return errors.Join(r.errs...) }

// Warnings returns all warnings, in order.
func (r *Reader) Warnings() []string { return r.warnings }

// Asked returns the names of all variables that were asked for, sorted.
func (r *Reader) Asked() []string { return slices.Sorted(maps.Keys(r.asked)) }

// Wrong is a value that is not accepted.
type Wrong struct {
	Name, Value string
	Err         error  // what is wrong with it: "is out of range"
	Accepted    string // what is accepted
}

// Error is one line.
func (w Wrong) Error() string {
	return fmt.Sprintf("%s: %q %v; accepted: %s", w.Name, w.Value, w.Err, w.Accepted)
}
