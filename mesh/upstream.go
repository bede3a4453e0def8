// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	plainGrammar    = "name[.namespace[.partition]]:port[:datacenter]"
	labelledGrammar = "name.svc[.NS.ns][.AP.ap|.PEER.peer|.DC.dc]:port"
)

// reservedPort is Lambda's own, in every sandbox (Telemetry API documentation).
const reservedPort = 9001

// Upstream is one entry of CONSUL_SERVICE_UPSTREAMS: a service of the mesh and the
// local port at which the function reaches it. It is comparable; only the parsers
// build one that is not the zero value.
type Upstream struct {
	service    Service
	peer       string
	datacenter string
	port       uint16
}

// ParseUpstream reads one entry, in either form:
//
//	name[.namespace[.partition]]:port[:datacenter]
//	name.svc[.NS.ns][.AP.ap|.PEER.peer|.DC.dc]:port
//
// The second part of the name decides: if it is exactly "svc" the entry is in the
// labelled form, in which each value stands before its label, and has to satisfy
// it. So "a.svc:80" is service a of the default namespace. A namespace that is
// itself called "svc" needs the labelled form, "a.svc.svc.ns:80". This is the rule
// of consul-k8s annotations. Labels are lower case, and values may be spelled like
// labels.
//
// The port is decimal digits, 1 to 65535 without 9001, which Lambda reserves. Every
// part must fit a label of a server name, 63 bytes, and all together the 253 bytes
// of one. There are no spaces in an entry. The error wraps ErrUpstream.
func ParseUpstream(entry string) (Upstream, error) {
	u, err := parseUpstream(entry)
	if err != nil {
		return Upstream{}, fmt.Errorf("%w %q: %w", ErrUpstream, entry, err)
	}
	return u, nil
}

// ParseUpstreams reads a comma list of entries, each as ParseUpstream does. Space
// around an entry is ignored, and so is one comma after the last; any other empty
// entry is an error, since it may be the rest of a name that went missing. An empty
// list is nil.
//
// Two entries on one port are an error that names both. All errors are reported together, by
// errors.Join, one line each, and then no upstream is returned. Each wraps
// ErrUpstream.
func ParseUpstreams(list string) ([]Upstream, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	entries := strings.Split(list, ",")
	if last := len(entries) - 1; strings.TrimSpace(entries[last]) == "" {
		entries = entries[:last]
	}
	var (
		upstreams []Upstream
		errs      []error
		owners    = make(map[uint16]string, len(entries))
	)
	for i, entry := range entries {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			errs = append(errs, fmt.Errorf("%w: entry %d of %d is empty: want %s or %s", ErrUpstream, i+1, len(entries), plainGrammar, labelledGrammar))
			continue
		}
		u, err := ParseUpstream(entry)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if owner, taken := owners[u.port]; taken {
			errs = append(errs, fmt.Errorf("%w %q: port %d is taken by %q: want a port for each upstream", ErrUpstream, entry, u.port, owner))
			continue
		}
		owners[u.port] = entry
		upstreams = append(upstreams, u)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return upstreams, nil
}

func parseUpstream(entry string) (Upstream, error) {
	head, tail, ok := strings.Cut(entry, ":")
	if !ok {
		return Upstream{}, fmt.Errorf("no port: want %s or %s", plainGrammar, labelledGrammar)
	}
	digits, datacenter, hasDatacenter := strings.Cut(tail, ":")

	var (
		u   Upstream
		err error
	)
	parts := strings.Split(head, ".")
	if len(parts) > 1 && parts[1] == "svc" {
		if hasDatacenter {
			return Upstream{}, fmt.Errorf("datacenter %q after the port: want %s", datacenter, labelledGrammar)
		}
		u, err = parseLabelled(parts)
	} else {
		u.service, err = parseService(parts)
		if err == nil && hasDatacenter {
			u.datacenter = datacenter
			err = checkPart("datacenter", datacenter)
		}
	}
	if err != nil {
		return Upstream{}, err
	}
	if u.port, err = parsePort(digits); err != nil {
		return Upstream{}, err
	}
	return u, u.checkServerName()
}

// parseLabelled reads the parts of a labelled name, of which the second is "svc".
// What follows is pairs of a value and its label.
func parseLabelled(parts []string) (Upstream, error) {
	var (
		u                    Upstream
		namespace, partition string
		pairs                = parts[2:]
	)
	if len(pairs) >= 2 && pairs[1] == "ns" {
		namespace, pairs = pairs[0], pairs[2:]
		if err := checkPart("namespace", namespace); err != nil {
			return Upstream{}, err
		}
	}
	if len(pairs) == 2 {
		var err error
		switch value, label := pairs[0], pairs[1]; label {
		case "ap":
			partition, err = value, checkPart("partition", value)
		case "peer":
			u.peer, err = value, checkPart("peer", value)
		case "dc":
			u.datacenter, err = value, checkPart("datacenter", value)
		default:
			err = fmt.Errorf("label %q: want %s", label, labelledGrammar)
		}
		if err != nil {
			return Upstream{}, err
		}
		pairs = nil
	}
	if len(pairs) != 0 {
		return Upstream{}, fmt.Errorf("%q after %q: want %s", strings.Join(pairs, "."), parts[0]+".svc", labelledGrammar)
	}
	var err error
	u.service, err = newService(parts[0], namespace, partition)
	return u, err
}

func parsePort(digits string) (uint16, error) {
	// ParseUint takes no sign and no space, and an underscore only with base 0.
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 || port == reservedPort {
		return 0, fmt.Errorf("port %q: want 1 to 65535 in digits, without %d, which Lambda reserves", digits, reservedPort)
	}
	return uint16(port), nil
}

// checkServerName refuses names that no server name can carry, whatever is still to
// be known: the trust domain is as long as Consul makes them, a datacenter or an
// exporter's peer name that the entry does not give has one byte.
func (u Upstream) checkServerName() error {
	n := SNI{service: u.service, datacenter: u.datacenter, trustDomain: sampleTrustDomain}
	switch {
	case u.peer != "":
		if err := checkLabel("peer", u.peer); err != nil {
			return err
		}
		n.peer = "x"
	case u.datacenter == "":
		n.datacenter = "x"
	}
	return n.check()
}

// Service returns the service that is meant. That of a peered upstream is in the
// default partition of the peer.
func (u Upstream) Service() Service { return u.service }

// Peer returns our name for the peer that exports the service, "" when the service
// is not a peer's.
func (u Upstream) Peer() string { return u.peer }

// Datacenter returns the datacenter that the entry names. "" is the datacenter of
// the caller's own leaf, or the peer's for a peered upstream.
func (u Upstream) Datacenter() string { return u.datacenter }

// Port returns the local port, 1 to 65535; 0 for the zero value.
func (u Upstream) Port() int { return int(u.port) }

// String returns the canonical entry, which ParseUpstream reads back as an equal
// value: the plain form with no part that is the default, and the labelled form
// where only that one can say it. It is "" for the zero value.
func (u Upstream) String() string {
	if u == (Upstream{}) {
		return ""
	}
	port := ":" + strconv.Itoa(int(u.port))
	if u.peer == "" && u.service.namespace != "svc" {
		if u.datacenter != "" {
			port += ":" + u.datacenter
		}
		return u.service.String() + port
	}
	entry := u.service.name + ".svc"
	if u.service.namespace != "" {
		entry += "." + u.service.namespace + ".ns"
	}
	// The labelled form has room for one of these, and only it spells this entry.
	switch {
	case u.service.partition != "":
		entry += "." + u.service.partition + ".ap"
	case u.peer != "":
		entry += "." + u.peer + ".peer"
	case u.datacenter != "":
		entry += "." + u.datacenter + ".dc"
	}
	return entry + port
}
