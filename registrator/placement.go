// SPDX-License-Identifier: MPL-2.0

package registrator

// placement says where the services of tagged functions belong.
type placement struct {
	datacenter  string   // the only one that is kept; "": each that Consul knows
	datacenters []string // Consul's, its own first
	enterprise  bool
	partitions  []string // that are kept; "" is the default one
	prefix      string   // of documents; "": there are none
}

// local returns the datacenter of Consul's server.
func (p placement) local() string {
	if len(p.datacenters) == 0 {
		return ""
	}
	return p.datacenters[0]
}

// key returns how a Key spells a datacenter: "" is the server's own.
func (p placement) key(datacenter string) string {
	if datacenter == p.local() {
		return ""
	}
	return datacenter
}

// realms are all parts of Consul in which services may be ours, those of the server's own datacenter first.
func (p placement) realms() []Realm {
	datacenters := p.datacenters
	if p.datacenter != "" {
		datacenters = []string{p.datacenter}
	}
	var realms []Realm
	for _, d := range datacenters {
		for _, partition := range p.partitions {
			realms = append(realms, Realm{Datacenter: p.key(d), Partition: partition})
		}
	}
	return realms
}
