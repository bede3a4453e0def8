// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"strings"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Realm is a part of Consul that is listed at once: all namespaces of one partition in one datacenter. The zero value is the
// default partition in the server's own datacenter; a Consul without Enterprise has no other partition.
type Realm struct{ Datacenter, Partition string }

func (r Realm) String() string {
	s := "the default partition"
	if r.Partition != "" {
		s = "partition " + r.Partition
	}
	if r.Datacenter != "" {
		s += " of datacenter " + r.Datacenter
	}
	return s
}

// Key is where in Consul a service is registered. Datacenter "" is the server's own.
type Key struct {
	Datacenter string
	Service    mesh.Service
}

// String returns the service, and its datacenter where that is not the server's own: "web.default.eu (dc2)".
func (k Key) String() string {
	if k.Datacenter != "" {
		return k.Service.String() + " (" + k.Datacenter + ")"
	}
	return k.Service.String()
}

// in returns the same service in another datacenter.
func (k Key) in(datacenter string) Key {
	k.Datacenter = datacenter
	return k
}

// realm returns the part of Consul that holds k.
func (k Key) realm() Realm {
	return Realm{Datacenter: k.Datacenter, Partition: unlessDefault(k.Service.Partition())}
}

// unlessDefault returns the form of a partition that a Realm has.
func unlessDefault(partition string) string {
	if partition == "default" {
		return ""
	}
	return partition
}

// folded is a Key, or the place of an ID, as Consul tells them apart: names that differ in case only are one.
type folded Key

// fold returns what k is told apart by.
func (k Key) fold() folded {
	name, namespace, partition := k.Service.Name(), k.Service.Namespace(), k.Service.Partition()
	if s, err := mesh.NewService(strings.ToLower(name), strings.ToLower(namespace), strings.ToLower(partition)); err == nil {
		k.Service = s // it is no less legal than it was
	}
	return folded(k)
}

// serviceID is what Consul tells instances of a node apart by, in lower case.
type serviceID struct {
	realm     Realm
	namespace string
	id        string
}

// id is where an instance with that ID is.
func (k Key) id(id string) serviceID {
	f := Key(k.fold())
	return serviceID{f.realm(), f.Service.Namespace(), strings.ToLower(id)}
}
