// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// The tags of a function. Their meaning is a contract with the predecessor; values are trimmed.
const (
	TagPrefix      = "serverless.consul.hashicorp.com/v1alpha1/lambda/"
	TagEnabled     = TagPrefix + "enabled"             // true or false: the others are looked at only when it is true
	TagPassthrough = TagPrefix + "payload-passthrough" // true or false
	TagMode        = TagPrefix + "invocation-mode"     // SYNCHRONOUS or ASYNCHRONOUS, in any case
	TagDatacenter  = TagPrefix + "datacenter"
	TagNamespace   = TagPrefix + "namespace"
	TagPartition   = TagPrefix + "partition"
	TagAliases     = TagPrefix + "aliases" // separated by "+", as a tag cannot hold a comma
)

// ServiceTag is the catalog tag of every service that a registrator, the predecessor included, has registered.
const ServiceTag = "managed-by-lambda-registrator"

// TagError is a user's mistake in a tag.
type TagError struct {
	Tag, Value string
	Want       string // what is accepted
}

// Error names the tag, its value and what is accepted.
func (e *TagError) Error() string {
	return fmt.Sprintf("tag %s is %q: want %s", e.Tag, e.Value, e.Want)
}

// placement says where the services of tagged functions belong.
type placement struct {
	datacenter  string   // the only one that is kept; "": each that Consul knows
	datacenters []string // Consul's, its own first
	enterprise  bool
	partitions  []string // that are kept; "" is the default one
	prefix      string   // of documents; "": there are none
}

// wish is what a function's tags ask for: records, or why there are none, or what is wrong with the tags (a user's mistake: what
// the function owns stays as it is, G10).
type wish struct {
	records []Record
	why     string
	moved   bool // to a datacenter that another registrator keeps
	shared  bool // and that is of this federation, so that its service-defaults are the same
	err     error
}

// wants says whether one of the records is for k.
func (w wish) wants(k Key) bool {
	return slices.ContainsFunc(w.records, func(r Record) bool { return r.Key.fold() == k.fold() })
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
	datacenter := f.tag(TagDatacenter)
	if datacenter == "" {
		datacenter = p.datacenter
	}
	switch {
	case datacenter == "":
		datacenter = p.local()
	case p.datacenter != "" && datacenter != p.datacenter:
		return wish{why: "it moved to datacenter " + datacenter, moved: true, shared: slices.Contains(p.datacenters, datacenter)}
	case !slices.Contains(p.datacenters, datacenter):
		return wish{err: &TagError{TagDatacenter, datacenter, "one of Consul's: " + strings.Join(p.datacenters, ", ")}}
	}
	records, err := p.records(f, p.key(datacenter))
	return wish{records: records, err: err}
}

func (p placement) records(f Function, datacenter string) ([]Record, error) {
	passthrough, err := boolTag(f, TagPassthrough)
	if err != nil {
		return nil, err
	}
	asynchronous, err := modeTag(f)
	if err != nil {
		return nil, err
	}
	aliases, err := aliasesTag(f)
	if err != nil {
		return nil, err
	}
	namespace, partition := f.tag(TagNamespace), f.tag(TagPartition)
	if !p.enterprise {
		if err := onlyDefault(TagNamespace, namespace); err != nil {
			return nil, err
		}
		if err := onlyDefault(TagPartition, partition); err != nil {
			return nil, err
		}
	}
	if !slices.Contains(p.partitions, unlessDefault(partition)) {
		return nil, &TagError{TagPartition, partition, "one that the registrator keeps: " + partitionList(p.partitions)}
	}
	var records []Record
	for _, alias := range append([]string{""}, aliases...) {
		name := f.ARN.Name()
		if alias != "" {
			name += "-" + alias
		}
		s, err := mesh.NewService(name, namespace, partition)
		if err != nil {
			return nil, err
		}
		r := Record{
			Key:          Key{Datacenter: datacenter, Service: s},
			Function:     f.ARN,
			Alias:        alias,
			Passthrough:  passthrough,
			Asynchronous: asynchronous,
		}
		if alias == "" && datacenter == "" && p.prefix != "" {
			if r.Document, err = s.ParameterPath(p.prefix); err != nil {
				return nil, err
			}
		}
		records = append(records, r)
	}
	return records, nil
}

func (f Function) tag(name string) string { return strings.TrimSpace(f.Tags[name]) }

// boolTag reads a tag that is false when it is missing.
func boolTag(f Function, name string) (bool, error) {
	value, ok := f.Tags[name]
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "true", "t", "1":
		return true, nil
	case "false", "f", "0":
		return false, nil
	}
	if !ok {
		return false, nil
	}
	return false, &TagError{name, value, "true or false"}
}

func modeTag(f Function) (asynchronous bool, err error) {
	switch value := f.tag(TagMode); strings.ToLower(value) {
	case "", "synchronous":
		return false, nil
	case "asynchronous":
		return true, nil
	default:
		return false, &TagError{TagMode, value, "SYNCHRONOUS or ASYNCHRONOUS"}
	}
}

func aliasesTag(f Function) ([]string, error) {
	value := f.tag(TagAliases)
	if value == "" {
		return nil, nil
	}
	var aliases []string
	for alias := range strings.SplitSeq(value, "+") {
		alias = strings.TrimSpace(alias)
		if !aliasPattern.MatchString(alias) || versionPattern.MatchString(alias) {
			return nil, &TagError{TagAliases, value, `names of aliases with "+" between them: letters, digits, "-" or "_", not digits only`}
		}
		if !slices.Contains(aliases, alias) {
			aliases = append(aliases, alias)
		}
	}
	return aliases, nil
}

// onlyDefault refuses a namespace or partition where Consul has none but the default.
func onlyDefault(tag, value string) error {
	if value == "" || value == "default" {
		return nil
	}
	return &TagError{tag, value, `no such tag, or "default": the registrator is not set up for Consul Enterprise`}
}

func partitionList(partitions []string) string {
	names := slices.Clone(partitions)
	for i, name := range names {
		if name == "" {
			names[i] = "default"
		}
	}
	return strings.Join(names, ", ")
}
