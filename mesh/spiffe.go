// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"fmt"
	"net/url"
	"strings"
)

const idForms = "spiffe://TD[/ap/AP]/ns/NS/dc/DC/svc/NAME or spiffe://TD[/ap/AP]/gateway/mesh/dc/DC"

// ID is the SPIFFE ID of a mesh service or of a mesh gateway. It is comparable, by
// spelling; to compare identities use Matches. Only the constructors build one that
// is not the zero value.
type ID struct {
	trustDomain string
	datacenter  string
	service     Service // a gateway's has no name and no namespace
}

// ServiceID returns the ID of a service's leaf certificate (Consul,
// agent/connect/uri_service.go):
//
//	spiffe://TD/ns/NS/dc/DC/svc/NAME           in the default partition
//	spiffe://TD/ap/AP/ns/NS/dc/DC/svc/NAME     in another
//
// The error wraps ErrID.
func ServiceID(s Service, datacenter, trustDomain string) (ID, error) {
	if s.IsZero() {
		return ID{}, fmt.Errorf("%w: %w", ErrID, errNoService)
	}
	return newID(ID{trustDomain: trustDomain, datacenter: datacenter, service: s})
}

// GatewayID returns the ID of the mesh gateways of a datacenter (Consul,
// agent/connect/uri_mesh_gateway_ce.go). For partition "" and "default" are the
// same:
//
//	spiffe://TD/gateway/mesh/dc/DC           in the default partition
//	spiffe://TD/ap/AP/gateway/mesh/dc/DC     in another
//
// The error wraps ErrID.
func GatewayID(partition, datacenter, trustDomain string) (ID, error) {
	if err := checkPart("partition", orDefault(partition)); err != nil {
		return ID{}, fmt.Errorf("%w: %w", ErrID, err)
	}
	gateway := Service{partition: unlessDefault(partition)}
	return newID(ID{trustDomain: trustDomain, datacenter: datacenter, service: gateway})
}

// ParseID reads the ID of a service or a mesh gateway, as ServiceID and GatewayID
// write it. Everything else is refused: other kinds of IDs, further or empty path
// segments, percent-encoding, a port, user information, a query or a fragment. The
// default partition may be written out; it is left out of what String returns. uri
// is only read. The error wraps ErrID.
func ParseID(uri *url.URL) (ID, error) {
	if uri == nil {
		return ID{}, fmt.Errorf("%w: no URI: want %s", ErrID, idForms)
	}
	id, err := parseID(uri)
	if err != nil {
		return ID{}, fmt.Errorf("%w %q: %w", ErrID, uri.Redacted(), err)
	}
	return id, nil
}

func parseID(uri *url.URL) (ID, error) {
	switch {
	case uri.Scheme != "spiffe":
		return ID{}, fmt.Errorf("scheme %q: want %s", uri.Scheme, idForms)
	case uri.Opaque != "", uri.OmitHost:
		return ID{}, fmt.Errorf("no trust domain: want %s", idForms)
	case uri.User != nil:
		return ID{}, fmt.Errorf("user information: want %s", idForms)
	case uri.RawQuery != "", uri.ForceQuery:
		return ID{}, fmt.Errorf("query: want %s", idForms)
	case uri.Fragment != "", uri.RawFragment != "":
		return ID{}, fmt.Errorf("fragment: want %s", idForms)
	case uri.RawPath != "":
		// What url.Parse decodes without leaving a RawPath is no byte of a name,
		// and is refused with the part that holds it.
		return ID{}, fmt.Errorf("percent-encoding: want %s", idForms)
	}
	segments := strings.Split(strings.TrimPrefix(uri.Path, "/"), "/")
	partition := defaultName
	if len(segments) > 1 && segments[0] == "ap" {
		partition, segments = segments[1], segments[2:]
	}

	id := ID{trustDomain: uri.Host}
	switch {
	case !strings.HasPrefix(uri.Path, "/"):
		return ID{}, fmt.Errorf("path %q: want %s", uri.Path, idForms)
	case len(segments) == 6 && segments[0] == "ns" && segments[2] == "dc" && segments[4] == "svc":
		s, err := parseService([]string{segments[5], segments[1], partition})
		if err != nil {
			return ID{}, err
		}
		id.service, id.datacenter = s, segments[3]
	case len(segments) == 4 && segments[0] == "gateway" && segments[1] == "mesh" && segments[2] == "dc":
		if err := checkPart("partition", partition); err != nil {
			return ID{}, err
		}
		id.service, id.datacenter = Service{partition: unlessDefault(partition)}, segments[3]
	default:
		return ID{}, fmt.Errorf("path %q: want %s", uri.Path, idForms)
	}
	if err := id.check(); err != nil {
		return ID{}, err
	}
	return id, nil
}

func newID(id ID) (ID, error) {
	if err := id.check(); err != nil {
		return ID{}, fmt.Errorf("%w: %w", ErrID, err)
	}
	return id, nil
}

func (id ID) check() error {
	if err := checkPart("datacenter", id.datacenter); err != nil {
		return err
	}
	return checkTrustDomain(id.trustDomain)
}

// Matches says whether both are the same identity: paths compare without regard to
// case, as Consul's own client does (connect/tls.go), trust domains exactly. The
// zero value matches nothing, not even itself.
func (id ID) Matches(other ID) bool {
	// EqualFold folds as ASCII does here, for no name holds anything else.
	return id != ID{} && other != ID{} &&
		id.trustDomain == other.trustDomain && strings.EqualFold(id.path(), other.path())
}

// TrustDomain returns the trust domain, without a port.
func (id ID) TrustDomain() string { return id.trustDomain }

// Datacenter returns the datacenter.
func (id ID) Datacenter() string { return id.datacenter }

// Service returns the service; false for a gateway and for the zero value.
func (id ID) Service() (Service, bool) {
	if id.service.name == "" {
		return Service{}, false
	}
	return id.service, true
}

// String returns the ID as a URI, in the spelling that it was built from; "" for
// the zero value.
func (id ID) String() string {
	if id == (ID{}) {
		return ""
	}
	return "spiffe://" + id.trustDomain + id.path()
}

// URL returns the ID as a new URL, which ParseID reads back as an equal value, and
// nil for the zero value.
func (id ID) URL() *url.URL {
	if id == (ID{}) {
		return nil
	}
	return &url.URL{Scheme: "spiffe", Host: id.trustDomain, Path: id.path()}
}

func (id ID) path() string {
	s, path := id.service, ""
	if s.partition != "" {
		path = "/ap/" + s.partition
	}
	if s.name == "" {
		return path + "/gateway/mesh/dc/" + id.datacenter
	}
	return path + "/ns/" + s.Namespace() + "/dc/" + id.datacenter + "/svc/" + s.name
}
