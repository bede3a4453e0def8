// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
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
