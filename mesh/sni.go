// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"errors"
	"fmt"
	"strings"
)

// The labels that mark the three kinds of server names (Consul,
// agent/connect/sni.go). What follows the marker is the trust domain.
const (
	markInternal  = "internal"
	markPartition = "internal-v1"
	markExternal  = "external"
)

var errSNIForm = errors.New("want svc.ns.dc.internal.TD, svc.ns.ap.dc.internal-v1.TD or svc.ns.ap.PEER.external.TD, and no subset")

// SNI is the server name by which a mesh gateway routes a connection. It is
// comparable; only the constructors build one that is not the zero value, and each
// is a legal host name: labels of 1 to 63 bytes, at most 253 in all. It is never an
// IP literal, which crypto/tls would not send, and has no dot at its end, which it
// would cut off: what String returns is what goes over the wire.
type SNI struct {
	service     Service
	datacenter  string // "" if peer is set
	peer        string
	trustDomain string
}

// ServiceSNI names a service of this cluster, or of a cluster that is federated
// with it, in a datacenter:
//
//	svc.ns.dc.internal.TD           in the default partition
//	svc.ns.ap.dc.internal-v1.TD     in another
//
// A trust domain that begins with one of the marking labels (internal, internal-v1,
// external) is refused: the name could be read in two ways. Consul makes none. The
// error wraps ErrSNI.
func ServiceSNI(s Service, datacenter, trustDomain string) (SNI, error) {
	return newSNI(SNI{service: s, datacenter: datacenter, trustDomain: trustDomain})
}

// PeeredSNI names a service that a peer exports to us:
//
//	svc.ns.ap.PEER.external.TD
//
// peerName is the name that the exporter gave to us (not ours for the exporter) and
// trustDomain is the exporter's. The error wraps ErrSNI.
func PeeredSNI(s Service, peerName, trustDomain string) (SNI, error) {
	if err := checkLabel("peer", peerName); err != nil {
		return SNI{}, fmt.Errorf("%w: %w", ErrSNI, err)
	}
	return newSNI(SNI{service: s, peer: peerName, trustDomain: trustDomain})
}

// ParseSNI reads the three forms of ServiceSNI and PeeredSNI, spelled exactly as
// their String does. A name that begins with a subset (Consul's resolvers have
// them, nothing here addresses one) is refused, as one in which a subset and a
// partition could not be told apart in every case. The error wraps ErrSNI.
func ParseSNI(name string) (SNI, error) {
	n, err := parseSNI(strings.Split(name, "."))
	if err != nil {
		return SNI{}, fmt.Errorf("%w %q: %w", ErrSNI, name, err)
	}
	// Only the default partition written out gets here with another spelling.
	if canonical := n.String(); canonical != name {
		return SNI{}, fmt.Errorf("%w %q: want %q", ErrSNI, name, canonical)
	}
	return n, nil
}

func parseSNI(labels []string) (SNI, error) {
	var (
		n         SNI
		partition = defaultName
	)
	if len(labels) < 5 {
		return SNI{}, errSNIForm
	}
	// A datacenter or a peer may be called "internal", but no trust domain begins
	// with a marker: so the later position decides.
	switch {
	case labels[4] == markPartition:
		partition, n.datacenter, n.trustDomain = labels[2], labels[3], strings.Join(labels[5:], ".")
	case labels[4] == markExternal:
		partition, n.peer, n.trustDomain = labels[2], labels[3], strings.Join(labels[5:], ".")
		if err := checkLabel("peer", n.peer); err != nil {
			return SNI{}, err
		}
	case labels[3] == markInternal:
		n.datacenter, n.trustDomain = labels[2], strings.Join(labels[4:], ".")
	default:
		return SNI{}, errSNIForm
	}
	var err error
	if n.service, err = parseService([]string{labels[0], labels[1], partition}); err != nil {
		return SNI{}, err
	}
	return n, n.check()
}

func newSNI(n SNI) (SNI, error) {
	if err := n.check(); err != nil {
		return SNI{}, fmt.Errorf("%w: %w", ErrSNI, err)
	}
	return n, nil
}

func (n SNI) check() error {
	if n.service.IsZero() {
		return errNoService
	}
	if err := checkLabel("name", n.service.name); err != nil {
		return err
	}
	if err := checkLabel("namespace", n.service.Namespace()); err != nil {
		return err
	}
	if err := checkLabel("partition", n.service.Partition()); err != nil {
		return err
	}
	if n.peer != "" {
		if err := checkLabel("peer", n.peer); err != nil {
			return err
		}
	} else if err := checkLabel("datacenter", n.datacenter); err != nil {
		return err
	}
	if err := checkTrustDomain(n.trustDomain); err != nil {
		return err
	}
	switch first, _, _ := strings.Cut(n.trustDomain, "."); first {
	case markInternal, markPartition, markExternal:
		return fmt.Errorf("trust domain %q: want one whose first label is not %q, which marks the kind of a server name", n.trustDomain, first)
	}
	if name := n.String(); len(name) > maxHost {
		return fmt.Errorf("%q takes %d bytes: want at most %d", name, len(name), maxHost)
	}
	return nil
}

// Service returns the service that is named.
func (n SNI) Service() Service { return n.service }

// Datacenter returns the datacenter, "" for a peered name.
func (n SNI) Datacenter() string { return n.datacenter }

// Peer returns the exporter's name for the caller, "" when the name is not peered.
func (n SNI) Peer() string { return n.peer }

// TrustDomain returns the trust domain: the exporter's for a peered name.
func (n SNI) TrustDomain() string { return n.trustDomain }

// String returns the server name, which ParseSNI reads back as an equal value; ""
// for the zero value.
func (n SNI) String() string {
	s := n.service
	switch {
	case n == SNI{}:
		return ""
	case n.peer != "":
		return strings.Join([]string{s.name, s.Namespace(), s.Partition(), n.peer, markExternal, n.trustDomain}, ".")
	case s.partition != "":
		return strings.Join([]string{s.name, s.Namespace(), s.partition, n.datacenter, markPartition, n.trustDomain}, ".")
	}
	return strings.Join([]string{s.name, s.Namespace(), n.datacenter, markInternal, n.trustDomain}, ".")
}
