// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// wish is what a function's tags ask for: records, or why there are none, or what is wrong with the tags (a user's mistake: what
// the function owns stays as it is, G10).
type wish struct {
	records []record
	why     string
	moved   bool // to a datacenter that another registrator keeps
	shared  bool // and that is of this federation, so that its service-defaults are the same
	err     error
}

// wish reads the tags of f. Only what is said of an enabled function can be a mistake, except for "enabled" itself.
func (p placement) wish(f Function) wish {
	enabled, err := boolTag(f, TagEnabled)
	switch {
	case err != nil:
		return wish{err: err}
	case !enabled:
		if value, ok := f.Tags[TagEnabled]; ok {
			return wish{why: fmt.Sprintf("its tag %s is %q", TagEnabled, value)}
		}
		return wish{why: "it has no tag " + TagEnabled}
	}
	datacenter := cmp.Or(f.tag(TagDatacenter), p.datacenter)
	switch {
	case datacenter == "":
		datacenter = p.local()
	case p.datacenter != "" && datacenter != p.datacenter:
		return wish{why: "it moved to datacenter " + datacenter, moved: true, shared: slices.Contains(p.datacenters, datacenter)}
	case !slices.Contains(p.datacenters, datacenter):
		return wish{err: &tagError{TagDatacenter, datacenter, "one of Consul's: " + strings.Join(p.datacenters, ", ")}}
	}
	records, err := p.records(f, p.key(datacenter))
	return wish{records: records, err: err}
}

// options are what the other tags of an enabled function say.
type options struct {
	passthrough, asynchronous bool
	aliases                   []string
	namespace, partition      string
}

func (p placement) options(f Function) (o options, err error) {
	if o.passthrough, err = boolTag(f, TagPassthrough); err != nil {
		return options{}, err
	}
	if o.asynchronous, err = modeTag(f); err != nil {
		return options{}, err
	}
	if o.aliases, err = aliasesTag(f); err != nil {
		return options{}, err
	}
	o.namespace, o.partition = f.tag(TagNamespace), f.tag(TagPartition)
	if !p.enterprise {
		if err := onlyDefault(TagNamespace, o.namespace); err != nil {
			return options{}, err
		}
		if err := onlyDefault(TagPartition, o.partition); err != nil {
			return options{}, err
		}
	}
	if !slices.Contains(p.partitions, unlessDefault(o.partition)) {
		return options{}, &tagError{TagPartition, o.partition, "one that the registrator keeps: " + partitionList(p.partitions)}
	}
	return o, nil
}

// records returns the records of f, the function's own first, in a datacenter as a Key spells it.
func (p placement) records(f Function, datacenter string) ([]record, error) {
	o, err := p.options(f)
	if err != nil {
		return nil, err
	}
	var records []record
	for _, alias := range append([]string{""}, o.aliases...) {
		name := f.ARN.Name()
		if alias != "" {
			name += "-" + alias
		}
		s, err := mesh.NewService(name, o.namespace, o.partition)
		if err != nil {
			return nil, err
		}
		r := record{
			Key:          Key{Datacenter: datacenter, Service: s},
			function:     f.ARN,
			alias:        alias,
			passthrough:  o.passthrough,
			asynchronous: o.asynchronous,
		}
		if alias == "" && datacenter == "" && p.prefix != "" {
			if r.document, err = s.ParameterPath(p.prefix); err != nil {
				return nil, err
			}
		}
		records = append(records, r)
	}
	return records, nil
}

// wants says whether one of the records is for k.
func (w wish) wants(k Key) bool {
	return slices.ContainsFunc(w.records, func(r record) bool { return r.Key.fold() == k.fold() })
}

// because says why a function whose tags were read does not ask for k, where a service for that alias is.
func (w wish) because(k Key, alias string) string {
	if len(w.records) == 0 {
		return w.why
	}
	for _, r := range w.records {
		if r.alias == alias {
			return fmt.Sprintf("it moved from %v to %v", k, r.Key)
		}
	}
	return fmt.Sprintf("the tag %s of its function does not name %s any more", TagAliases, alias)
}
