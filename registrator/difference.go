// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// differences shows what c changes of what there is.
func differences(s standing, c Change) []Difference {
	before, after := make(map[string]string), make(map[string]string)
	if c.entry != nil {
		s.entry.show(before)
		if e, err := readEntry(c.entry.Raw); err == nil && !c.without {
			e.show(after)
		}
	}
	if c.instance != nil {
		s.Instance.show(before)
		if c.Kind != Delete {
			c.instance.show(after)
		}
	}
	if c.document != nil {
		before["document"], after["document"] = s.stored.show(), c.document.show()
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

func (s stored) show() string {
	if s.version == 0 {
		return ""
	}
	return fmt.Sprintf("version %d, leaf until %s", s.version, s.notAfter.UTC().Format(time.RFC3339))
}

func (d documentChange) show() string {
	switch {
	case d.must:
		return "a new version"
	case !d.remove:
		return "a new version, if Consul has a newer leaf"
	}
	return ""
}
