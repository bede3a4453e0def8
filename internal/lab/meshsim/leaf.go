// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Leaf is an issued certificate with its key. The zero value is of no use.
type Leaf struct {
	CertPEM string // the leaf, then its intermediates
	KeyPEM  string // EC (SEC 1) key; of another certificate under [MismatchedKey]

	// Certificate is the same, ready for a tls.Config; Leaf is set.
	Certificate tls.Certificate
}

// Serial returns the serial number in hexadecimal, as [SidecarStats] counts it.
func (l *Leaf) Serial() string { return serialOf(l.Certificate.Leaf) }

// String names the leaf without its key, so that a leaf can be logged.
func (l *Leaf) String() string { return "leaf " + l.Serial() }

// LeafOptions changes what [CA.Issue] makes. Its zero value asks for a sound
// leaf that lives CAConfig.LeafTTL.
type LeafOptions struct {
	NotBefore time.Time // zero: a minute ago, as Consul does
	NotAfter  time.Time // zero: CAConfig.LeafTTL from now
	Flaw      Flaw
}

// Flaw is one way in which a leaf can be unfit.
type Flaw int

// The flaws; the zero value is none.
const (
	Sound         Flaw = iota
	Expired            // ended a minute ago
	NotYetValid        // begins in an hour
	ForeignCA          // signed by a root of the same kind that is not listed
	MismatchedKey      // the key belongs to another certificate
	TwoURIs            // has a second URI name, of another service
	NoURI              // has no URI name at all
	OtherIdentity      // names another service of the same trust domain
	WrongUsage         // may be used for neither end of TLS
)

// Flaws returns every flaw but [Sound], for tables.
func Flaws() []Flaw {
	return []Flaw{Expired, NotYetValid, ForeignCA, MismatchedKey, TwoURIs, NoURI, OtherIdentity, WrongUsage}
}

// String returns the flaw in words.
func (f Flaw) String() string {
	words := [...]string{"sound", "expired", "not yet valid", "foreign CA", "mismatched key",
		"two URIs", "no URI", "other identity", "wrong usage"}
	if f < 0 || int(f) >= len(words) {
		return fmt.Sprintf("Flaw(%d)", int(f))
	}
	return words[f]
}

// Issue makes a key and a leaf for id, signed by the active root or its
// intermediate. Like Consul's, it carries id as its only name and may be used
// for both ends of TLS.
func (ca *CA) Issue(id mesh.ID, opts LeafOptions) (*Leaf, error) {
	r, err := ca.active(opts.Flaw == ForeignCA)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("meshsim: making leaf key: %w", err)
	}
	cert, err := sign(ca.leafTemplate(id, opts), &key.PublicKey, r.issuer)
	if err != nil {
		return nil, fmt.Errorf("meshsim: signing leaf: %w", err)
	}
	if opts.Flaw == MismatchedKey {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, fmt.Errorf("meshsim: making leaf key: %w", err)
		}
	}
	return bundle(cert, r.chain, key)
}

// leafTemplate returns what is to be signed for id.
func (ca *CA) leafTemplate(id mesh.ID, opts LeafOptions) *x509.Certificate {
	now := time.Now()
	t := &x509.Certificate{
		URIs:                  []*url.URL{id.URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ca.cfg.LeafTTL),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	other := *id.URL()
	other.Path += "-other"
	switch opts.Flaw {
	case Expired:
		t.NotBefore, t.NotAfter = now.Add(-ca.cfg.LeafTTL-time.Minute), now.Add(-time.Minute)
	case NotYetValid:
		t.NotBefore, t.NotAfter = now.Add(time.Hour), now.Add(time.Hour+ca.cfg.LeafTTL)
	case TwoURIs:
		t.URIs = append(t.URIs, &other)
	case NoURI:
		// Without any name X.509 wants a subject.
		t.URIs, t.Subject.CommonName = nil, "nameless"
	case OtherIdentity:
		t.URIs = []*url.URL{&other}
	case WrongUsage:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	}
	if !opts.NotBefore.IsZero() {
		t.NotBefore = opts.NotBefore
	}
	if !opts.NotAfter.IsZero() {
		t.NotAfter = opts.NotAfter
	}
	return t
}

// bundle puts the pieces of a leaf into their two forms.
func bundle(cert *x509.Certificate, chain []*x509.Certificate, key *ecdsa.PrivateKey) (*Leaf, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("meshsim: encoding leaf key: %w", err)
	}
	var certs strings.Builder
	certs.Write(certPEM(cert))
	raw := [][]byte{cert.Raw}
	for _, c := range chain {
		certs.Write(certPEM(c))
		raw = append(raw, c.Raw)
	}
	return &Leaf{
		CertPEM:     certs.String(),
		KeyPEM:      string(pem.EncodeToMemory(&pem.Block{Type: ecKeyBlock, Bytes: der})),
		Certificate: tls.Certificate{Certificate: raw, PrivateKey: key, Leaf: cert},
	}, nil
}

// ecKeyBlock is the PEM type of a SEC 1 key, as Consul writes it.
const ecKeyBlock = "EC " + "PRIVATE" + " KEY"

// serialOf returns a certificate's serial number in hexadecimal.
func serialOf(c *x509.Certificate) string { return c.SerialNumber.Text(16) }
