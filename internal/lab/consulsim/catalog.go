// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// node is a node as Consul shows it.
type node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	Partition       string `json:",omitempty"`
	TaggedAddresses map[string]string
	Meta            map[string]string
	Locality        json.RawMessage `json:",omitempty"`
	CreateIndex     uint64
	ModifyIndex     uint64
}

// service is an instance on a node as Consul shows it.
type service struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]serviceAddress `json:",omitempty"`
	Meta              map[string]string
	Port              int             `json:",omitempty"`
	Ports             json.RawMessage `json:",omitempty"`
	SocketPath        string          `json:",omitempty"`
	Weights           *weights
	EnableTagOverride bool
	Locality          json.RawMessage `json:",omitempty"`
	Proxy             json.RawMessage
	Connect           json.RawMessage
	Namespace         string `json:",omitempty"`
	Partition         string `json:",omitempty"`
	PeerName          string
	CreateIndex       uint64
	ModifyIndex       uint64
}

type serviceAddress struct {
	Address string
	Port    int
}

type weights struct{ Passing, Warning int }

// What Consul shows of a service that is neither proxy nor native to the mesh.
var (
	noProxy   = json.RawMessage(`{"Mode":"","MeshGateway":{},"Expose":{}}`)
	noConnect = json.RawMessage(`{}`)
)

// shown returns the service as answers have it: never without a list of tags.
func (sv *service) shown() *service {
	if sv.Tags != nil {
		return sv
	}
	out := *sv
	out.Tags = []string{}
	return &out
}

// Names are found whatever their case, as Consul's indexes do it.
type nodeKey struct{ partition, name string }

type serviceKey struct {
	node      nodeKey
	namespace string
	id        string
}

func keyOf(partition, name string) nodeKey {
	return nodeKey{cmp.Or(partition, defaultScope), strings.ToLower(name)}
}

func (n *node) key() nodeKey { return keyOf(n.Partition, n.Node) }

func (sv *service) key(node string) serviceKey {
	return serviceKey{keyOf(sv.Partition, node), cmp.Or(sv.Namespace, defaultScope), strings.ToLower(sv.ID)}
}

// catalog is the nodes and what runs on them.
type catalog struct {
	nodes    map[nodeKey]*node
	services map[serviceKey]*service
}

func newCatalog() catalog {
	return catalog{make(map[nodeKey]*node), make(map[serviceKey]*service)}
}

// clone returns a copy in which a transaction can fail without a trace.
func (c catalog) clone() catalog { return catalog{maps.Clone(c.nodes), maps.Clone(c.services)} }

// ensureNode sets n, which the catalog keeps, and reports whether that changed
// anything.
func (c catalog) ensureNode(idx uint64, n *node) bool {
	old := c.nodes[n.key()]
	n.CreateIndex, n.ModifyIndex = idx, idx
	if old != nil {
		n.CreateIndex, n.ModifyIndex = old.CreateIndex, old.ModifyIndex
		if reflect.DeepEqual(n, old) {
			return false
		}
		n.ModifyIndex = idx
	}
	c.nodes[n.key()] = n
	return true
}

// ensureService sets sv, which the catalog keeps, and reports whether that
// changed anything. It fails without a trace if there is no such node.
func (c catalog) ensureService(idx uint64, node string, sv *service) (changed bool, err error) {
	if err := sv.checkMeta(node); err != nil {
		return false, err
	}
	sv.normalise()
	key := sv.key(node)
	if c.nodes[key.node] == nil {
		return false, failed("Missing node registration")
	}
	old := c.services[key]
	sv.CreateIndex, sv.ModifyIndex = idx, idx
	if old != nil {
		sv.CreateIndex, sv.ModifyIndex = old.CreateIndex, old.ModifyIndex
		if reflect.DeepEqual(sv, old) {
			return false, nil
		}
		sv.ModifyIndex = idx
	}
	c.services[key] = sv
	return true, nil
}

// normalise gives an unset part the value that Consul stores for it, so that
// the same service compares equal however it was spelled.
func (sv *service) normalise() {
	if sv.Weights == nil || sv.Weights.Passing < 1 || sv.Weights.Warning < 0 ||
		sv.Weights.Passing > 65535 || sv.Weights.Warning > 65535 {
		sv.Weights = &weights{1, 1}
	}
	sv.Proxy = compact(sv.Proxy, noProxy)
	sv.Connect = compact(sv.Connect, noConnect)
	sv.Ports = compact(sv.Ports, nil)
	sv.Locality = compact(sv.Locality, nil)
}

// compact returns j without space, or instead if j says nothing.
func compact(j, instead json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if len(j) == 0 || json.Compact(&b, j) != nil || b.String() == "null" {
		return instead
	}
	return b.Bytes()
}

// Limits of a service's meta, as Consul checks them (structs.go, validateMetadata).
const (
	metaPairs      = 64
	metaKeyLength  = 128
	metaValueLimit = 512
	metaReserved   = "consul-"
)

func (sv *service) checkMeta(node string) error {
	if err := checkMeta(sv.Meta); err != nil {
		return failed("Invalid Service Meta for node %s and serviceID %s: %v", node, sv.ID, err)
	}
	return nil
}

func checkMeta(meta map[string]string) error {
	if len(meta) > metaPairs {
		return fmt.Errorf("Node metadata cannot contain more than %d key/value pairs", metaPairs) //nolint:staticcheck // Consul's words
	}
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		v, what := meta[k], ""
		switch {
		case k == "":
			what = "Key cannot be blank"
		case strings.ContainsFunc(k, notMetaKey):
			what = "Key contains invalid characters"
		case len(k) > metaKeyLength:
			what = fmt.Sprintf("Key is too long (limit: %d characters)", metaKeyLength)
		case strings.HasPrefix(k, metaReserved):
			what = fmt.Sprintf("Key prefix '%s' is reserved for internal use", metaReserved)
		case len(v) > metaValueLimit:
			what = fmt.Sprintf("Value is too long (limit: %d characters)", metaValueLimit)
		default:
			continue
		}
		return fmt.Errorf("Couldn't load metadata pair ('%s', '%s'): %s", k, v, what) //nolint:staticcheck // Consul's words
	}
	return nil
}

func notMetaKey(r rune) bool {
	return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

func (c catalog) deleteService(key serviceKey) (changed bool) {
	_, changed = c.services[key]
	delete(c.services, key)
	return changed
}

func (c catalog) deleteNode(key nodeKey) (changed bool) {
	_, changed = c.nodes[key]
	delete(c.nodes, key)
	maps.DeleteFunc(c.services, func(k serviceKey, _ *service) bool { return k.node == key })
	return changed
}

// sorted returns the keys of the services that match, in Consul's order.
func (c catalog) sorted(match func(serviceKey, *service) bool) []serviceKey {
	var keys []serviceKey
	for k, sv := range c.services {
		if match(k, sv) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b serviceKey) int {
		return cmp.Or(cmp.Compare(a.node.partition, b.node.partition), cmp.Compare(a.namespace, b.namespace),
			cmp.Compare(a.node.name, b.node.name), cmp.Compare(a.id, b.id))
	})
	return keys
}

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

// read begins a read of the catalog: where to look and what the caller may see.
func (x *exchange) read(scoped func() (scope, error)) (*store, scope, authorizer, error) {
	sc, err := scoped()
	if err != nil {
		return nil, sc, authorizer{}, err
	}
	st, a, err := x.access()
	if err != nil {
		return nil, sc, authorizer{}, err
	}
	x.meta(st.changed[catalogTable])
	return st, sc, a, nil
}

// nodeServices answers a node that is not there, or that may not be seen, with
// nothing: no node and no services.
func (x *exchange) nodeServices() (any, error) {
	st, sc, a, err := x.read(x.scope)
	if err != nil {
		return nil, err
	}
	name := x.r.PathValue("name")
	if name == "" {
		return nil, badRequest("Missing node name")
	}
	var out struct {
		Node     *node
		Services []*service
	}
	n := st.catalog.nodes[keyOf(sc.partition, name)]
	if n == nil {
		x.meta(1)
		return out, nil
	}
	if a.need(resourceNode, read, n.Node) != nil {
		x.filtered(true)
		return out, nil
	}
	out.Node = n
	hidden := false
	for _, k := range st.catalog.sorted(func(k serviceKey, _ *service) bool {
		return k.node == n.key() && sc.contains(scope{k.node.partition, k.namespace})
	}) {
		sv := st.catalog.services[k]
		if a.need(resourceService, read, sv.Service) != nil {
			hidden = true
			continue
		}
		out.Services = append(out.Services, sv.shown())
	}
	x.filtered(hidden)
	return out, nil
}

func (x *exchange) nodes() (any, error) {
	st, sc, a, err := x.read(x.scope)
	if err != nil {
		return nil, err
	}
	out, hidden := []*node{}, false
	for key, n := range st.catalog.nodes {
		switch {
		case key.partition != sc.partition:
		case a.need(resourceNode, read, n.Node) != nil:
			hidden = true
		default:
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *node) int { return cmp.Compare(strings.ToLower(a.Node), strings.ToLower(b.Node)) })
	x.filtered(hidden)
	return out, nil
}

// visible reports whether an instance is seen in lists of services: that takes
// the right to read its node, too.
func (st *store) visible(a authorizer, k serviceKey, sv *service) bool {
	return a.need(resourceNode, read, st.catalog.nodes[k.node].Node) == nil && a.need(resourceService, read, sv.Service) == nil
}

func (x *exchange) services() (any, error) {
	st, sc, a, err := x.read(x.oneScope)
	if err != nil {
		return nil, err
	}
	out, hidden := map[string][]string{}, false
	for k, sv := range st.catalog.services {
		switch {
		case !sc.contains(scope{k.node.partition, k.namespace}):
			continue
		case !st.visible(a, k, sv):
			hidden = true
			continue
		}
		tags := append(append([]string{}, out[sv.Service]...), sv.Tags...)
		slices.Sort(tags)
		out[sv.Service] = slices.Compact(tags)
	}
	x.filtered(hidden)
	return out, nil
}

// instance is a service together with its node, as /v1/catalog/service shows it.
type instance struct {
	ID, Node, Address, Datacenter string
	TaggedAddresses, NodeMeta     map[string]string
	ServiceKind                   string
	ServiceID, ServiceName        string
	ServiceTags                   []string
	ServiceAddress                string
	ServiceTaggedAddresses        map[string]serviceAddress `json:",omitempty"`
	ServiceWeights                weights
	ServiceMeta                   map[string]string
	ServicePort                   int
	ServicePorts                  json.RawMessage
	ServiceSocketPath             string
	ServiceEnableTagOverride      bool
	ServiceProxy, ServiceConnect  json.RawMessage
	ServiceLocality               json.RawMessage
	Namespace                     string `json:",omitempty"`
	Partition                     string `json:",omitempty"`
	CreateIndex, ModifyIndex      uint64
}

func (x *exchange) service() (any, error) {
	st, sc, a, err := x.read(x.oneScope)
	if err != nil {
		return nil, err
	}
	name := x.r.PathValue("name")
	if name == "" {
		return nil, badRequest("Missing service name")
	}
	out, hidden := []instance{}, false
	for _, k := range st.catalog.sorted(func(k serviceKey, sv *service) bool {
		return strings.EqualFold(sv.Service, name) && sc.contains(scope{k.node.partition, k.namespace})
	}) {
		sv, n := st.catalog.services[k].shown(), st.catalog.nodes[k.node]
		if !st.visible(a, k, sv) {
			hidden = true
			continue
		}
		if wanted := x.query["tag"]; !containsAll(sv.Tags, wanted) {
			continue
		}
		out = append(out, instance{
			ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter, TaggedAddresses: n.TaggedAddresses,
			NodeMeta: n.Meta, ServiceKind: sv.Kind, ServiceID: sv.ID, ServiceName: sv.Service, ServiceTags: sv.Tags,
			ServiceAddress: sv.Address, ServiceTaggedAddresses: sv.TaggedAddresses, ServiceWeights: *sv.Weights,
			ServiceMeta: sv.Meta, ServicePort: sv.Port, ServicePorts: sv.Ports, ServiceSocketPath: sv.SocketPath,
			ServiceEnableTagOverride: sv.EnableTagOverride, ServiceProxy: sv.Proxy, ServiceConnect: sv.Connect,
			ServiceLocality: sv.Locality, Namespace: sv.Namespace, Partition: sv.Partition,
			CreateIndex: sv.CreateIndex, ModifyIndex: sv.ModifyIndex,
		})
	}
	x.filtered(hidden)
	return out, nil
}

// containsAll compares tags as Consul does, whatever their case.
func containsAll(tags, wanted []string) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(tags, func(t string) bool { return strings.EqualFold(t, w) }) {
			return false
		}
	}
	return true
}

func (x *exchange) datacenters() (any, error) { return x.s.cfg.Datacenters, nil }
