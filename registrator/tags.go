// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"fmt"
	"slices"
	"strings"
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

// tagError is a user's mistake in a tag.
type tagError struct {
	Tag, Value string
	Want       string // what is accepted
}

// Error names the tag, its value and what is accepted.
func (e *tagError) Error() string {
	return fmt.Sprintf("tag %s is %q: want %s", e.Tag, e.Value, e.Want)
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
	return false, &tagError{name, value, "true or false"}
}

func modeTag(f Function) (asynchronous bool, err error) {
	switch value := f.tag(TagMode); strings.ToLower(value) {
	case "", "synchronous":
		return false, nil
	case "asynchronous":
		return true, nil
	default:
		return false, &tagError{TagMode, value, "SYNCHRONOUS or ASYNCHRONOUS"}
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
			return nil, &tagError{TagAliases, value, `names of aliases with "+" between them: letters, digits, "-" or "_", not digits only`}
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
	return &tagError{tag, value, `no such tag, or "default": the registrator is not set up for Consul Enterprise`}
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
