// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

const (
	defaultTrustDomain = "11111111-2222-3333-4444-555555555555.consul"
	defaultDatacenter  = "dc1"
	// Consul's own defaults: leaves live 72 h, roots ten years, and a leaf
	// is valid from a minute before it was made, so that clocks may differ.
	defaultLeafTTL = 72 * time.Hour
	rootTTL        = 10 * 365 * 24 * time.Hour
	backdate       = time.Minute
)

// CAConfig describes a [CA]. Its zero value is a CA of the datacenter "dc1".
type CAConfig struct {
	TrustDomain  string        // host of every SPIFFE ID; "": a fixed UUID below .consul
	Datacenter   string        // "": "dc1"
	LeafTTL      time.Duration // life of a leaf; 0: 72 h
	Intermediate bool          // leaves are signed by an intermediate, which is sent with them
	NoCrossSign  bool          // Rotate does not have the old root vouch for the new one
}

// CA is a certificate authority shaped like Consul's: EC P-256, roots that
// carry the trust domain as a URI, exactly one of them active, old ones
// listed until pruned. It is safe for concurrent use and holds no resources.
type CA struct {
	cfg CAConfig

	mu         sync.Mutex
	generation uint64
	made       int     // roots made so far; makes their subjects differ
	roots      []*root // oldest first; the last is active
	foreign    *root   // of the same name, listed nowhere; made when first asked for
}

// root is a self-signed root with what it needs to issue.
type root struct {
	self   *authority
	issuer *authority          // self, or its intermediate
	chain  []*x509.Certificate // sent after each leaf
}

// authority is a certificate that may sign others.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a CA with one root.
func NewCA(cfg CAConfig) (*CA, error) {
	if cfg.TrustDomain == "" {
		cfg.TrustDomain = defaultTrustDomain
	}
	if cfg.Datacenter == "" {
		cfg.Datacenter = defaultDatacenter
	}
	if cfg.LeafTTL == 0 {
		cfg.LeafTTL = defaultLeafTTL
	}
	ca := &CA{cfg: cfg, generation: 1}
	r, err := ca.newRoot()
	if err != nil {
		return nil, err
	}
	ca.roots = []*root{r}
	return ca, nil
}

// TrustDomain returns the host part of every SPIFFE ID of this CA.
func (ca *CA) TrustDomain() string { return ca.cfg.TrustDomain }

// Datacenter returns the datacenter of the identities that [CA.ServiceID] makes.
func (ca *CA) Datacenter() string { return ca.cfg.Datacenter }

// ServiceID returns the identity of s in this CA's trust domain and datacenter.
func (ca *CA) ServiceID(s mesh.Service) (mesh.ID, error) {
	return mesh.ServiceID(s, ca.cfg.Datacenter, ca.cfg.TrustDomain)
}

// GatewayID returns the identity of this datacenter's mesh gateways.
func (ca *CA) GatewayID() (mesh.ID, error) {
	return mesh.GatewayID("default", ca.cfg.Datacenter, ca.cfg.TrustDomain)
}

// Generation grows by one whenever the list of roots changes. It starts at 1.
func (ca *CA) Generation() uint64 {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.generation
}

// Rotate makes a new root and makes it the active one. The older ones stay
// listed. As in Consul, the previous root signs the new one too, and leaves
// carry that certificate along, so that those who know only the old root accept
// them (see CAConfig.NoCrossSign).
func (ca *CA) Rotate() error {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	next, err := ca.newRoot()
	if err != nil {
		return err
	}
	if !ca.cfg.NoCrossSign {
		active := ca.roots[len(ca.roots)-1].self
		cross, err := sign(next.self.cert, &next.self.key.PublicKey, active)
		if err != nil {
			return fmt.Errorf("meshsim: cross-signing root: %w", err)
		}
		next.chain = append(next.chain, cross)
	}
	ca.roots = append(ca.roots, next)
	ca.generation++
	return nil
}

// Prune drops every root but the active one, and the old root's word for it.
func (ca *CA) Prune() {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	active := *ca.roots[len(ca.roots)-1]
	active.chain = nil
	if active.issuer != active.self {
		active.chain = []*x509.Certificate{active.issuer.cert}
	}
	ca.roots = []*root{&active}
	ca.generation++
}

// RootsPEM returns all listed roots, concatenated. The active one is last: a
// reader that takes only the first block of a bundle is caught by a rotation.
func (ca *CA) RootsPEM() string {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	var b strings.Builder
	for _, r := range ca.roots {
		b.Write(certPEM(r.self.cert))
	}
	return b.String()
}

// RootsPool returns a new pool of all listed roots. It does not follow later changes.
func (ca *CA) RootsPool() *x509.CertPool {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	pool := x509.NewCertPool()
	for _, r := range ca.roots {
		pool.AddCert(r.self.cert)
	}
	return pool
}

// A Root is one root of a [CA]'s list. Its certificates are shared: do not change them.
type Root struct {
	Certificate *x509.Certificate
	Signer      *x509.Certificate   // signs the leaves: Certificate itself, or its intermediate
	Chain       []*x509.Certificate // sent after each leaf; nil: none
	Active      bool                // signs now; true of exactly one root
}

// Roots returns the listed roots, oldest first, and the generation of that list.
func (ca *CA) Roots() ([]Root, uint64) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	list := make([]Root, len(ca.roots))
	for i, r := range ca.roots {
		list[i] = Root{
			Certificate: r.self.cert,
			Signer:      r.issuer.cert,
			Chain:       slices.Clone(r.chain),
			Active:      i == len(ca.roots)-1,
		}
	}
	return list, ca.generation
}

// LeafTTL returns the life of a leaf that [CA.Issue] makes unless told otherwise.
func (ca *CA) LeafTTL() time.Duration { return ca.cfg.LeafTTL }

// active returns the root that issues, or with foreign one of the same name
// that is not in the list.
func (ca *CA) active(foreign bool) (*root, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if !foreign {
		return ca.roots[len(ca.roots)-1], nil
	}
	if ca.foreign == nil {
		r, err := ca.newRoot()
		if err != nil {
			return nil, err
		}
		ca.foreign = r
	}
	return ca.foreign, nil
}

// newRoot makes a root, and its intermediate if the CA has them. The caller
// holds mu, or is the only one to know ca.
func (ca *CA) newRoot() (*root, error) {
	ca.made++
	uri := &url.URL{Scheme: "spiffe", Host: ca.cfg.TrustDomain}
	name := fmt.Sprintf("pri-%d.%s", ca.made, ca.cfg.TrustDomain)
	self, err := newAuthority(name, uri, nil)
	if err != nil {
		return nil, fmt.Errorf("meshsim: making root: %w", err)
	}
	if !ca.cfg.Intermediate {
		return &root{self: self, issuer: self}, nil
	}
	sub, err := newAuthority("sec-"+name, uri, self)
	if err != nil {
		return nil, fmt.Errorf("meshsim: making intermediate: %w", err)
	}
	return &root{self: self, issuer: sub, chain: []*x509.Certificate{sub.cert}}, nil
}

// newAuthority makes a key and a CA certificate for it, signed by parent, or
// by itself if parent is nil.
func newAuthority(name string, uri *url.URL, parent *authority) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		URIs:                  []*url.URL{uri},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootTTL),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	if parent == nil {
		parent = &authority{cert: template, key: key}
	}
	cert, err := sign(template, &key.PublicKey, parent)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

// sign returns template as a certificate for pub, signed by parent, with a
// random serial number.
func sign(template *x509.Certificate, pub *ecdsa.PublicKey, parent *authority) (*x509.Certificate, error) {
	t := *template
	t.SerialNumber = nil
	der, err := x509.CreateCertificate(rand.Reader, &t, parent.cert, pub, parent.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
