// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// verifier decides whether a peer is the upstream: its chain leads to one of the roots, all of it is valid now, and its
// SPIFFE ID is one of those allowed. It takes the place of crypto/tls's own check, which compares a host name: leaves of
// a mesh carry none (rule R1).
type verifier struct {
	allowed []mesh.ID
	chains  *chains
	clock   clock.Clock
}

// verify is a tls.Config's VerifyConnection, which crypto/tls calls on every connection: VerifyPeerCertificate is left
// out when a session is resumed.
func (v *verifier) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it sent no certificate", ErrIdentity)
	}
	now := v.clock.Now().Wall()
	if err := v.chains.check(cs.PeerCertificates, now); err != nil {
		return err
	}
	return checkIdentity(cs.PeerCertificates[0], v.allowed)
}

// checkIdentity compares the one URI of a leaf with the identities allowed. A certificate that names several could mean
// either, so it means none.
func checkIdentity(leaf *x509.Certificate, allowed []mesh.ID) error {
	if n := len(leaf.URIs); n != 1 {
		return fmt.Errorf("%w: its certificate has %d URI names, want one SPIFFE ID", ErrIdentity, n)
	}
	id, err := mesh.ParseID(leaf.URIs[0])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	for _, want := range allowed {
		if id.Matches(want) {
			return nil
		}
	}
	return fmt.Errorf("%w: it is %s, want %s", ErrIdentity, id, allowed[0])
}

// chains checks certificate chains against one set of roots, and remembers the good ones: two signatures cost a tenth of
// a millisecond, which a resumed handshake otherwise does without. Only that a chain leads to a root is remembered. Its
// validity is compared with the clock each time, and identity is not its business.
type chains struct {
	roots *x509.CertPool

	mu    sync.RWMutex
	known map[[sha256.Size]byte]validity
}

// validity is when all certificates of a chain are valid, from the root to the leaf.
type validity struct{ from, until time.Time }

// maxKnownChains bounds the memory of a chains. Behind one upstream there are as many chains as it has instances, times
// two in a rotation; past the bound chains are checked anew.
const maxKnownChains = 128

func (c *chains) check(peer []*x509.Certificate, now time.Time) error {
	sum := sumOf(peer)
	c.mu.RLock()
	valid, ok := c.known[sum]
	c.mu.RUnlock()
	if ok && !now.Before(valid.from) && !now.After(valid.until) {
		return nil
	}

	intermediates := x509.NewCertPool()
	for _, cert := range peer[1:] {
		intermediates.AddCert(cert)
	}
	verified, err := peer[0].Verify(x509.VerifyOptions{
		Roots:         c.roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("verifying the peer's certificate: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) < maxKnownChains {
		if c.known == nil {
			c.known = make(map[[sha256.Size]byte]validity)
		}
		c.known[sum] = validityOf(verified[0])
	}
	return nil
}

func sumOf(peer []*x509.Certificate) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, cert := range peer {
		h.Write(cert.Raw) // DER says its own length: the concatenation is unambiguous
	}
	h.Sum(sum[:0])
	return sum
}

func validityOf(chain []*x509.Certificate) validity {
	v := validity{from: chain[0].NotBefore, until: chain[0].NotAfter}
	for _, cert := range chain[1:] {
		if cert.NotBefore.After(v.from) {
			v.from = cert.NotBefore
		}
		if cert.NotAfter.Before(v.until) {
			v.until = cert.NotAfter
		}
	}
	return v
}
