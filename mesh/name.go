// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"errors"
	"fmt"
	"strings"
)

// defaultName is Consul's namespace and partition where none is given.
const defaultName = "default"

// maxPart bounds one part of a name, in bytes. Lambda's longest service name is a
// function (64), "-" and an alias (128); 255 leaves room above it and keeps a
// SPIFFE ID of four parts and a trust domain under the 2,048 bytes that the SPIFFE
// standard allows (SPIFFE-ID, section 2.3).
const maxPart = 255

// The bounds of a host name, and so of a server name (RFC 6066, section 3 makes it
// a DNS host name): RFC 1035, section 2.3.4 allows 63 bytes a label and 255 in all,
// of which a length byte before the first label and the root's empty label take two.
const (
	maxLabel = 63
	maxHost  = 253
)

// checkPart says whether s may stand as one part of a name. kind is the part's
// word in the error.
func checkPart(kind, s string) error {
	if s == "" || !onlyNameBytes(s) {
		return fmt.Errorf(`%s %q: want ASCII letters, digits, "-" or "_"`, kind, s)
	}
	if len(s) > maxPart {
		return fmt.Errorf("%s %q takes %d bytes: want at most %d", kind, s, len(s), maxPart)
	}
	return nil
}

// checkLabel says whether s may stand as one part of a name that is also a label
// of a server name.
func checkLabel(kind, s string) error {
	if err := checkPart(kind, s); err != nil {
		return err
	}
	if len(s) > maxLabel {
		return fmt.Errorf("%s %q takes %d bytes: want at most %d, a label of a server name", kind, s, len(s), maxLabel)
	}
	return nil
}

// checkTrustDomain says whether s is a host name without a port.
func checkTrustDomain(s string) error {
	ok := len(s) <= maxHost
	for label := range strings.SplitSeq(s, ".") {
		ok = ok && label != "" && len(label) <= maxLabel && onlyNameBytes(label)
	}
	if !ok {
		return fmt.Errorf(`trust domain %q: want a host name of at most %d bytes without a port, such as "%s"`, s, maxHost, sampleTrustDomain)
	}
	return nil
}

// sampleTrustDomain has the shape and the length of every trust domain that Consul
// makes: the cluster's UUID and ".consul".
const sampleTrustDomain = "00000000-0000-0000-0000-000000000000.consul"

// errNoService is the reason why a constructor refuses the zero Service.
var errNoService = errors.New("service is empty: want one from NewService or ParseService")

// orDefault and unlessDefault turn the stored form of a namespace or a partition, in
// which "" is the default one, into the form that is shown and back.
func orDefault(s string) string {
	if s == "" {
		return defaultName
	}
	return s
}

func unlessDefault(s string) string {
	if s == defaultName {
		return ""
	}
	return s
}

func onlyNameBytes(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
