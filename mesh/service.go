// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"fmt"
	"strings"
)

// Service names a service in a namespace and a partition. It is comparable; the
// zero value names nothing.
type Service struct {
	name      string
	namespace string // "" is the default namespace; never "default"
	partition string // "" is the default partition; never "default"
}

// NewService names a service. For namespace and partition "" and "default" are the
// same. A part has 1 to 255 bytes, more than a label of a server name may: a Lambda
// function's own name has up to 64, and its alias adds to that. Such a service has
// an ID and a document, while ServiceSNI and ParseUpstream refuse it. The error wraps
// ErrService.
func NewService(name, namespace, partition string) (Service, error) {
	s, err := newService(name, namespace, partition)
	if err != nil {
		return Service{}, fmt.Errorf("%w: %w", ErrService, err)
	}
	return s, nil
}

// ParseService reads name[.namespace[.partition]]. A part that is written must not
// be empty: the default namespace before a partition is spelled "default". The
// error wraps ErrService.
func ParseService(s string) (Service, error) {
	parsed, err := parseService(strings.Split(s, "."))
	if err != nil {
		return Service{}, fmt.Errorf("%w %q: %w", ErrService, s, err)
	}
	return parsed, nil
}

// parseService takes one to three parts, of which none may be empty.
func parseService(parts []string) (Service, error) {
	kinds := [...]string{"name", "namespace", "partition"}
	if len(parts) > len(kinds) {
		return Service{}, fmt.Errorf("%d parts: want name[.namespace[.partition]]", len(parts))
	}
	var given [len(kinds)]string
	for i, part := range parts {
		if err := checkPart(kinds[i], part); err != nil {
			return Service{}, err
		}
		given[i] = part
	}
	return newService(given[0], given[1], given[2])
}

func newService(name, namespace, partition string) (Service, error) {
	if err := checkPart("name", name); err != nil {
		return Service{}, err
	}
	if err := checkPart("namespace", orDefault(namespace)); err != nil {
		return Service{}, err
	}
	if err := checkPart("partition", orDefault(partition)); err != nil {
		return Service{}, err
	}
	return Service{name: name, namespace: unlessDefault(namespace), partition: unlessDefault(partition)}, nil
}

// Name returns the service's name, 1 to 255 bytes; "" for the zero value.
func (s Service) Name() string { return s.name }

// Namespace returns the namespace, "default" when none was given.
func (s Service) Namespace() string { return orDefault(s.namespace) }

// Partition returns the partition, "default" when none was given.
func (s Service) Partition() string { return orDefault(s.partition) }

// IsZero says whether s names nothing.
func (s Service) IsZero() bool { return s == Service{} }

// String returns the shortest form that ParseService reads back as an equal value;
// "" for the zero value.
func (s Service) String() string {
	switch {
	case s.partition != "":
		return s.name + "." + s.Namespace() + "." + s.partition
	case s.namespace != "":
		return s.name + "." + s.namespace
	}
	return s.name
}

// The bounds of a Parameter Store name (API reference, PutParameter, Name): 1,011
// bytes, in which the parameter's ARN up to the name is counted, and 15 levels.
// 64 bytes hold the longest such ARN start, as in
// "arn:aws-us-gov:ssm:us-gov-east-1:123456789012:parameter", with some to spare.
const (
	maxParameterPath   = 1011 - 64
	maxParameterLevels = 15
)

// ParameterPath returns PREFIX/<partition>/<namespace>/<name>, where the service's
// credential document is stored, with "default" for a namespace or partition that
// was not given.
//
// The prefix is absolute and has no slash at its end. The whole is checked against
// the rules of Parameter Store: letters, digits, "_", "." and "-" between single
// slashes, no more than 15 levels, at most 947 bytes (1,011 less the room that is
// kept for the ARN), and a first level that does not begin with "aws" or "ssm" in
// any case. The error wraps ErrParameterPath.
func (s Service) ParameterPath(prefix string) (string, error) {
	if s.IsZero() {
		return "", fmt.Errorf("%w: %w", ErrParameterPath, errNoService)
	}
	levels, ok := strings.CutPrefix(prefix, "/")
	for level := range strings.SplitSeq(levels, "/") {
		ok = ok && level != "" && onlyNameBytes(strings.ReplaceAll(level, ".", ""))
	}
	if !ok {
		return "", fmt.Errorf(`%w: prefix %q: want letters, digits, "_", "." and "-" after single slashes, such as "/consul/lambda"`, ErrParameterPath, prefix)
	}
	if reserved := strings.ToLower(levels[:min(3, len(levels))]); reserved == "aws" || reserved == "ssm" {
		return "", fmt.Errorf(`%w: prefix %q: begins with %q, which Parameter Store reserves: want another first level`, ErrParameterPath, prefix, reserved)
	}
	path := prefix + "/" + s.Partition() + "/" + s.Namespace() + "/" + s.name
	if n := strings.Count(path, "/"); n > maxParameterLevels {
		return "", fmt.Errorf("%w %q: %d levels: want at most %d", ErrParameterPath, path, n, maxParameterLevels)
	}
	if len(path) > maxParameterPath {
		return "", fmt.Errorf("%w %q: %d bytes: want at most %d", ErrParameterPath, path, len(path), maxParameterPath)
	}
	return path, nil
}
