// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// state is what a change starts from.
type state struct {
	entry    entry
	instance Instance
	stored   stored
}

// differences shows what c changes.
func differences(s state, c Change) []Difference {
	before, after := make(map[string]string), make(map[string]string)
	if c.entry != nil {
		s.entry.show(before)
		if e, err := readEntry(c.entry.Raw); err == nil && !c.without {
			e.show(after)
		}
	}
	if c.instance != nil {
		s.instance.show(before)
		if c.Kind != Delete {
			c.instance.show(after)
		}
	}
	if c.document != nil {
		if s.stored.version != 0 {
			before["document"] = fmt.Sprintf("version %d, leaf until %s", s.stored.version, s.stored.notAfter.UTC().Format(time.RFC3339))
		}
		switch {
		case c.document.must:
			after["document"] = "a new version"
		case !c.document.remove:
			after["document"] = "a new version, if Consul has a newer leaf"
		}
	}
	fields := maps.Clone(before)
	maps.Copy(fields, after)
	var found []Difference
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if before[field] != after[field] {
			found = append(found, Difference{field, before[field], after[field]})
		}
	}
	return found
}

func (e entry) show(into map[string]string) {
	const at = "service-defaults."
	into[at+"protocol"] = e.protocol
	into[at+"owner"], into[at+"made"] = e.owner(), e.meta.text(metaMade)
	for field, value := range e.arguments {
		if text := e.arguments.text(field); text != "" {
			into[at+field] = text
		} else {
			into[at+field] = string(value)
		}
	}
}

func (i Instance) show(into map[string]string) {
	into["catalog.tags"] = strings.Join(i.Tags, ",")
	for field, value := range i.Meta {
		into["catalog."+field] = value
	}
}
