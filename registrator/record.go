// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"strings"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Record is the desired state of one service: what a function's tags ask for, once for the function and once for each alias. It is
// comparable.
type Record struct {
	Key
	Function     ARN
	Alias        string // "" for the function itself
	Passthrough  bool   // the payload goes to the function as it came
	Asynchronous bool   // the caller does not wait for the function
	// Document is the path of the credential document, "" for none: an alias has none, as only the plain function's name is known
	// to the extension, and neither has a service of another datacenter, whose leaf cannot be issued here.
	Document string
}

// ARN returns what Consul is to invoke.
func (r Record) ARN() string { return r.Function.Qualified(r.Alias) }

// mode is spelled as Consul compares it: "ASYNCHRONOUS" would be taken for synchronous (builtin/aws-lambda/aws_lambda.go).
func (r Record) mode() string {
	if r.Asynchronous {
		return "asynchronous"
	}
	return "synchronous"
}

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

// String returns the service, and its datacenter where that is not the server's own: "web.default.eu (dc2)".
func (k Key) String() string {
	if k.Datacenter != "" {
		return k.Service.String() + " (" + k.Datacenter + ")"
	}
	return k.Service.String()
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
