// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"slices"
	"strings"
)

// holding is a service of ours as it is registered.
type holding struct {
	Instance
	function ARN    // zero: the meta does not say
	alias    string // of function
	adopted  bool   // from the predecessor, by this run
	stored   stored
}

// holdings finds the services that are ours (G5): on our node, with our owner in the meta. One of the predecessor has our tag and no
// owner in the meta; it is ours if its service-defaults invoke a function of our account and region, for two accounts may share the
// node.
func (o *observation) holdings() map[folded]holding {
	found := make(map[folded]holding)
	for k, instances := range o.instances {
		for _, i := range instances {
			if h, ok := o.holding(i); ok {
				// Two are possible only if somebody copied one of ours: the one with the service's own name is kept up.
				if _, taken := found[k]; !taken || strings.EqualFold(i.ID, k.Service.Name()) {
					found[k] = h
				}
			}
		}
	}
	return found
}

func (o *observation) holding(i Instance) (holding, bool) {
	h := holding{Instance: i, stored: readStored(i.Meta)}
	switch owner := i.Meta[metaOwner]; owner {
	case o.owner.String():
		if function, alias, err := ParseQualifiedARN(i.Meta[metaFunction]); err == nil && function.Owner() == o.owner {
			h.function, h.alias = function, alias
		}
		return h, true
	case "":
		if !slices.Contains(i.Tags, ServiceTag) {
			return holding{}, false
		}
		e, whose, _ := o.hold(i.Key)
		function, alias := e.arn()
		if whose != holdLegacy && whose != holdOurs || function.IsZero() {
			return holding{}, false
		}
		h.function, h.alias, h.adopted, h.stored = function, alias, true, stored{}
		return h, true
	}
	return holding{}, false
}

// hold says whose the service-defaults entry of k is, with what is wrong with one that cannot be read.
func (o *observation) hold(k Key) (entry, hold, error) {
	d, ok := o.entries[k.fold()]
	if !ok {
		return newEntry(k), holdNone, nil
	}
	e, err := readEntry(d.Raw)
	if err != nil {
		return entry{}, holdForeign, err
	}
	return e, e.hold(o.owner), nil
}
