// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"bytes"
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

type kvKey struct {
	scope scope
	key   string
}

// pair is a key and its value as Consul shows them.
type pair struct {
	LockIndex   uint64
	Key         string
	Flags       uint64
	Value       []byte
	Namespace   string `json:",omitempty"`
	Partition   string `json:",omitempty"`
	CreateIndex uint64
	ModifyIndex uint64
}

// kvRequest is what all operations on keys have in common.
type kvRequest struct {
	st    *store
	scope scope
	auth  authorizer
	key   string
	cas   uint64
	check bool // cas was given
}

func (x *exchange) kvRequest() (q kvRequest, err error) {
	if q.scope, err = x.oneScope(); err != nil {
		return q, err
	}
	if q.st, q.auth, err = x.access(); err != nil {
		return q, err
	}
	q.key = x.r.PathValue("name")
	if q.check = x.query.Has("cas"); q.check {
		if q.cas, err = strconv.ParseUint(x.query.Get("cas"), 10, 64); err != nil {
			return q, failed("%v", err)
		}
	}
	if q.key == "" && !x.query.Has("recurse") && !x.query.Has("keys") {
		return q, badRequest("Missing key name")
	}
	return q, nil
}

func (q *kvRequest) find() (*pair, uint64) {
	p := q.st.kv[kvKey{q.scope, q.key}]
	if p == nil {
		return nil, 0
	}
	return p, p.ModifyIndex
}

// below returns the pairs whose key begins with the request's, in order.
func (q *kvRequest) below() []*pair {
	var out []*pair
	for k, p := range q.st.kv {
		if k.scope == q.scope && strings.HasPrefix(k.key, q.key) && q.auth.need(resourceKey, read, k.key) == nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *pair) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

func (x *exchange) kvGet() (any, error) {
	q, err := x.kvRequest()
	if err != nil {
		return nil, err
	}
	x.meta(q.st.changed[kvTable])
	var found []*pair
	switch {
	case x.query.Has("keys"):
		keys := []string{}
		for _, p := range q.below() {
			keys = append(keys, p.Key)
		}
		if len(keys) == 0 && q.key != "" {
			return raw{status: http.StatusNotFound}, nil
		}
		return keys, nil
	case x.query.Has("recurse"):
		found = q.below()
	default:
		if err := q.auth.need(resourceKey, read, q.key); err != nil {
			return nil, err
		}
		if p, _ := q.find(); p != nil {
			x.meta(p.ModifyIndex)
			found = []*pair{p}
		}
	}
	switch {
	case len(found) == 0:
		return raw{status: http.StatusNotFound}, nil
	case x.query.Has("raw"):
		return raw{http.StatusOK, "text/plain; charset=utf-8", found[0].Value}, nil
	}
	return found, nil
}

func (x *exchange) kvPut() (any, error) {
	q, err := x.kvRequest()
	if err != nil {
		return nil, err
	}
	p := &pair{
		Key: q.key, Value: slices.Clone(x.body),
		Namespace: x.s.shown(q.scope.namespace), Partition: x.s.shown(q.scope.partition),
	}
	if len(p.Value) == 0 {
		p.Value = nil
	}
	if flags := x.query.Get("flags"); flags != "" {
		if p.Flags, err = strconv.ParseUint(flags, 10, 64); err != nil {
			return nil, failed("%v", err)
		}
	}
	if err := q.auth.need(resourceKey, write, q.key); err != nil {
		return nil, err
	}
	p.CreateIndex = q.st.next()
	p.ModifyIndex = p.CreateIndex
	old, current := q.find()
	if q.check && stale(q.cas, old != nil, current) {
		return false, nil
	}
	if old != nil {
		if old.Flags == p.Flags && bytes.Equal(old.Value, p.Value) {
			return true, nil
		}
		p.CreateIndex = old.CreateIndex
	}
	q.st.kv[kvKey{q.scope, q.key}] = p
	q.st.touch(kvTable, true)
	return true, nil
}

// kvDelete answers true for a key that is not there, with cas as well.
func (x *exchange) kvDelete() (any, error) {
	q, err := x.kvRequest()
	if err != nil {
		return nil, err
	}
	if err := q.auth.need(resourceKey, write, q.key); err != nil {
		return nil, err
	}
	q.st.next()
	if x.query.Has("recurse") {
		for _, p := range q.below() {
			delete(q.st.kv, kvKey{q.scope, p.Key})
			q.st.touch(kvTable, true)
		}
		return true, nil
	}
	old, current := q.find()
	if old == nil {
		return true, nil
	}
	if q.check && q.cas != current {
		return false, nil
	}
	delete(q.st.kv, kvKey{q.scope, q.key})
	q.st.touch(kvTable, true)
	return true, nil
}
