// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
)

// registration is the body of a registration. Health checks are taken and
// forgotten.
type registration struct {
	Datacenter      string
	ID              string
	Node            string
	Address         string
	TaggedAddresses map[string]string
	NodeMeta        map[string]string
	Service         *service
	Check           json.RawMessage
	Checks          json.RawMessage
	Locality        json.RawMessage
	SkipNodeUpdate  bool
	PeerName        string
	Partition       string
	Namespace       string
	Token           string
	CreateIndex     uint64
	ModifyIndex     uint64
}

func (x *exchange) register() (any, error) {
	sc, err := x.oneScope()
	if err != nil {
		return nil, err
	}
	var in registration
	if err := x.decodeStrictly(&in); err != nil {
		return nil, badRequest("Request decode failed: %v", err)
	}
	if in.Service == nil {
		err = x.own(&sc, in.Partition, in.Namespace)
	} else {
		err = x.own(&sc, cmp.Or(in.Partition, in.Service.Partition), cmp.Or(in.Service.Namespace, in.Namespace))
	}
	if err != nil {
		return nil, err
	}
	st, err := x.s.store(in.Datacenter)
	if err != nil {
		return nil, err
	}
	a, err := x.authorize()
	if err != nil {
		return nil, err
	}
	switch {
	case in.PeerName != "":
		return nil, failed("cannot register requests with PeerName in them")
	case in.Node == "":
		return nil, failed("Must provide node")
	case in.Address == "" && !in.SkipNodeUpdate:
		return nil, failed("Must provide address if SkipNodeUpdate is not set")
	}
	if in.Service != nil {
		in.Service.Partition, in.Service.Namespace = x.s.shown(sc.partition), x.s.shown(sc.namespace)
		if err := in.Service.prepare(a); err != nil {
			return nil, err
		}
	}
	n := &node{
		ID: in.ID, Node: in.Node, Address: in.Address, Datacenter: st.datacenter, Partition: x.s.shown(sc.partition),
		TaggedAddresses: in.TaggedAddresses, Meta: in.NodeMeta, Locality: compact(in.Locality, nil),
	}
	if err := st.mayRegister(a, &in, n); err != nil {
		return nil, err
	}
	return true, st.apply(&in, n)
}

// own settles the scope of a body that may name one itself. The community
// edition has no such fields.
func (x *exchange) own(sc *scope, partition, namespace string) error {
	if !x.s.cfg.Enterprise {
		switch {
		case namespace != "":
			return badRequest(`Request decode failed: json: unknown field "Namespace" - Namespaces are a Consul Enterprise feature`)
		case partition != "":
			return badRequest(`Request decode failed: json: unknown field "Partition"`)
		}
		return nil
	}
	*sc = x.s.scope(cmp.Or(partition, sc.partition), cmp.Or(namespace, sc.namespace))
	return nil
}

// prepare checks the service of a write and fills in its ID.
func (sv *service) prepare(a authorizer) error {
	switch {
	case sv.ID == "" && sv.Service == "":
		return failed("service name (Service.Service) is required; both Service ID (Service.ID) and Service Name cannot be empty")
	case sv.ID == "":
		sv.ID = sv.Service
	case sv.Service == "":
		return failed("Must provide service name (Service.Service) when service ID is provided")
	}
	if addr, err := netip.ParseAddr(sv.Address); err == nil && addr.IsUnspecified() {
		return failed("Invalid service address")
	}
	if sv.Service == "consul" {
		return nil // the servers' own: node:write decides
	}
	return a.need(resourceService, write, sv.Service)
}

// changesNode reports whether the registration would write n over old.
func (in *registration) changesNode(n, old *node) bool {
	switch {
	case old == nil:
		return true
	case in.SkipNodeUpdate:
		return false
	}
	same := *n
	same.Node = old.Node // whatever its case
	same.CreateIndex, same.ModifyIndex = old.CreateIndex, old.ModifyIndex
	return !reflect.DeepEqual(&same, old)
}

// mayRegister applies the rules of a registration: node:write unless the node
// is there and stays as it is; service:write for the service and for the one
// whose ID it takes over.
func (st *store) mayRegister(a authorizer, in *registration, n *node) error {
	if in.changesNode(n, st.catalog.nodes[n.key()]) {
		if err := a.need(resourceNode, write, in.Node); err != nil {
			return err
		}
	}
	if in.Service == nil {
		return nil
	}
	if err := a.need(resourceService, write, in.Service.Service); err != nil {
		return err
	}
	other := st.catalog.services[in.Service.key(in.Node)]
	if other != nil && a.need(resourceService, write, other.Service) != nil {
		return denied
	}
	return nil
}

// apply does a registration that was allowed, or nothing of it.
func (st *store) apply(in *registration, n *node) error {
	idx := st.next()
	if in.Service != nil {
		if err := in.Service.checkMeta(in.Node); err != nil {
			return failed("failed inserting service: %v", err)
		}
	}
	changed := in.changesNode(n, st.catalog.nodes[n.key()]) && st.catalog.ensureNode(idx, n)
	if in.Service != nil {
		set, err := st.catalog.ensureService(idx, in.Node, in.Service)
		if err != nil {
			return failed("failed inserting service: %v", err)
		}
		changed = changed || set
	}
	st.touch(catalogTable, changed)
	return nil
}

func (x *exchange) deregister() (any, error) {
	sc, err := x.oneScope()
	if err != nil {
		return nil, err
	}
	var in struct {
		Datacenter, Node, ServiceID, CheckID, PeerName, Address, Partition, Namespace, Token string
	}
	if err := x.decodeStrictly(&in); err != nil {
		return nil, badRequest("Request decode failed: %v", err)
	}
	if err := x.own(&sc, in.Partition, in.Namespace); err != nil {
		return nil, err
	}
	st, err := x.s.store(in.Datacenter)
	if err != nil {
		return nil, err
	}
	if in.Node == "" {
		return nil, failed("Must provide node")
	}
	a, err := x.authorize()
	if err != nil {
		return nil, err
	}
	key := serviceKey{keyOf(sc.partition, in.Node), sc.namespace, strings.ToLower(in.ServiceID)}
	// Who may write the node may take anything off it; else service:write is
	// asked for, and to say which service it would be, that one must exist.
	if denial := a.need(resourceNode, write, in.Node); denial != nil {
		switch sv := st.catalog.services[key]; {
		case in.ServiceID == "" && in.CheckID != "":
			return nil, failed("Unknown check ID '%s'", in.CheckID)
		case in.ServiceID == "":
			return nil, denial
		case sv == nil:
			return nil, failed("Unknown service ID '%s'", in.ServiceID)
		default:
			if err := a.need(resourceService, write, sv.Service); err != nil {
				return nil, err
			}
		}
	}
	st.next()
	switch {
	case in.ServiceID != "":
		st.touch(catalogTable, st.catalog.deleteService(key))
	case in.CheckID == "":
		st.touch(catalogTable, st.catalog.deleteNode(key.node))
	}
	return true, nil
}

// decodeStrictly refuses fields that are not in out, as the catalog does.
func (x *exchange) decodeStrictly(out any) error {
	d := json.NewDecoder(bytes.NewReader(x.body))
	d.DisallowUnknownFields()
	return d.Decode(out)
}
