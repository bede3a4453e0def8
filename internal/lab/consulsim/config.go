// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// mayAccess is service:read or write, but for proxy-defaults, which all may read.
func mayAccess(a authorizer, want access, kind, name string) error {
	switch {
	case kind == serviceDefaults:
		return a.need(resourceService, want, name)
	case want == write:
		return a.need(resourceMesh, want, "")
	}
	return nil
}

func (x *exchange) configList() (any, error) {
	st, sc, a, err := x.look(x.scope)
	if err != nil {
		return nil, err
	}
	kind := x.r.PathValue("kind")
	if err := checkKind(kind); err != nil {
		return nil, failed("%v", err)
	}
	x.meta(st.changed[entryTable])
	out, hidden := []map[string]json.RawMessage{}, false
	for _, k := range st.sortedEntries() {
		e := st.entries[k]
		switch {
		case k.kind != kind || !sc.contains(k.scope):
		case mayAccess(a, read, kind, e.name) != nil:
			hidden = true
		default:
			out = append(out, e.show())
		}
	}
	x.filtered(hidden)
	return out, nil
}

func (st *store) sortedEntries() []entryKey {
	return slices.SortedFunc(maps.Keys(st.entries), func(a, b entryKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.scope.partition, b.scope.partition),
			cmp.Compare(a.scope.namespace, b.scope.namespace), cmp.Compare(a.name, b.name))
	})
}

func (x *exchange) configGet() (any, error) {
	st, sc, a, err := x.look(x.oneScope)
	if err != nil {
		return nil, err
	}
	kind, name := x.r.PathValue("kind"), x.r.PathValue("name")
	if err := checkKind(kind); err != nil {
		return nil, failed("%v", err)
	}
	if err := mayAccess(a, read, kind, name); err != nil {
		return nil, err
	}
	x.meta(st.changed[entryTable])
	e := st.entries[entryKey{kind, sc, strings.ToLower(name)}]
	if e == nil {
		return nil, &failure{http.StatusNotFound, fmt.Sprintf("Config entry not found for %q / %q", kind, name)}
	}
	x.meta(e.modifyIndex)
	return e.show(), nil
}

// compareIndex reads ?cas=.
func (x *exchange) compareIndex() (cas uint64, given bool, err error) {
	asked := x.query.Get("cas")
	if asked == "" {
		return 0, false, nil
	}
	if cas, err = strconv.ParseUint(asked, 10, 64); err != nil {
		return 0, false, failed("%v", err)
	}
	return cas, true, nil
}

func (x *exchange) configSet() (any, error) {
	fields, err := decodeEntry(x.body)
	if err != nil {
		return nil, badRequest("Request decoding failed: %v", err)
	}
	if !x.s.cfg.Enterprise {
		for field, what := range map[string]string{"Namespace": "namespaces are", "Partition": "partitions are"} {
			if _, has := fields[field]; has {
				return nil, badRequest("Request decoding failed: %v",
					listed(fmt.Sprintf("invalid config key %q, %s a consul enterprise feature", field, what)))
			}
		}
	}
	sc, err := x.oneScope()
	if err != nil {
		return nil, err
	}
	sc = x.s.scope(cmp.Or(text(fields, "Partition"), sc.partition), cmp.Or(text(fields, "Namespace"), sc.namespace))
	cas, check, err := x.compareIndex()
	if err != nil {
		return nil, err
	}
	_, a, err := x.access()
	if err != nil {
		return nil, err
	}
	key, e, err := x.s.newEntry(fields, sc)
	if err != nil {
		return nil, failed("%v", err)
	}
	if err := mayAccess(a, write, key.kind, e.name); err != nil {
		return nil, err
	}
	primary := x.s.stores[0]
	old := primary.entries[key]
	if old != nil && old.same(e) {
		return true, nil
	}
	primary.next()
	var current uint64
	if old != nil {
		current = old.modifyIndex
	}
	if check && stale(cas, old != nil, current) {
		return false, nil
	}
	primary.setEntry(key, *e)
	for _, replica := range x.s.stores[1:] {
		replica.next()
		replica.setEntry(key, *e)
	}
	return true, nil
}

// setEntry keeps e under the index of the write that st has begun.
func (st *store) setEntry(key entryKey, e entry) {
	e.createIndex, e.modifyIndex = st.index, st.index
	if old := st.entries[key]; old != nil {
		e.createIndex = old.createIndex
	}
	st.entries[key] = &e
	st.touch(entryTable, true)
}

// configDelete answers an entry that is not there as one that was deleted.
func (x *exchange) configDelete() (any, error) {
	kind, name := x.r.PathValue("kind"), x.r.PathValue("name")
	if !strings.Contains(strings.TrimPrefix(x.r.URL.Path, "/v1/config/"), "/") {
		return nil, &failure{http.StatusNotFound, "Must provide both a kind and name to delete"}
	}
	if err := checkKind(kind); err != nil {
		return nil, badRequest("%v", err)
	}
	sc, err := x.oneScope()
	if err != nil {
		return nil, err
	}
	cas, check, err := x.compareIndex()
	if err != nil {
		return nil, err
	}
	_, a, err := x.access()
	if err != nil {
		return nil, err
	}
	if err := mayAccess(a, write, kind, name); err != nil {
		return nil, err
	}
	key := entryKey{kind, sc, strings.ToLower(name)}
	deleted := true
	if old := x.s.stores[0].entries[key]; old != nil {
		if deleted = !check || cas == old.modifyIndex; deleted {
			for _, st := range x.s.stores {
				st.next()
				delete(st.entries, key)
				st.touch(entryTable, true)
			}
		}
	}
	if check {
		return deleted, nil
	}
	return struct{}{}, nil
}
