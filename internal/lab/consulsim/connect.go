// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"crypto/sha1" //nolint:gosec // a root's ID in Consul is its SHA-1: a name, not a proof
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

const (
	// Consul makes a leaf valid from a minute ago, so that clocks may differ.
	backdate = time.Minute
	// csrWait is how long a signing request waits for its turn before it is
	// refused (connect_ca_endpoint.go, csrLimitWait).
	csrWait = 500 * time.Millisecond
	// Beyond hardRenewal of its life a leaf is renewed by whoever reads it; a
	// blocking read renews at softRenewal (leafcert/util.go has 60 % to 90 %).
	hardRenewal = 0.90
	softRenewal = 0.75
	// Leaves that live under ten minutes count as due at any time.
	shortLife = 10 * time.Minute
	// Bounds and default of ?wait=, and how often a waiting request looks.
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
	lookAgain   = 5 * time.Millisecond
)

var rateLimited = &failure{http.StatusTooManyRequests, "Rate limit reached, try again later"}

// caRoot is a root as Consul shows it.
type caRoot struct {
	ID                  string
	Name                string
	SerialNumber        uint64
	SigningKeyID        string
	ExternalTrustDomain string
	NotBefore           time.Time
	NotAfter            time.Time
	RootCert            string
	IntermediateCerts   []string
	Active              bool
	PrivateKeyType      string
	PrivateKeyBits      int
	CreateIndex         uint64
	ModifyIndex         uint64
}

type caRoots struct {
	ActiveRootID string
	TrustDomain  string
	Roots        []caRoot
}

// rootList is what the cluster last saw of the CA. The server's lock guards it.
type rootList struct {
	generation uint64 // of the CA; 0: never looked
	index      uint64
	created    map[string]uint64 // by ID
	shown      caRoots
}

// currentRoots looks at the CA and, if its list changed, writes that down under
// a new index, as a rotation does. The caller holds mu.
func (s *Server) currentRoots() *rootList {
	listed, generation := s.cfg.CA.Roots()
	r := &s.roots
	if generation == r.generation {
		return r
	}
	st := s.stores[0]
	next := rootList{
		generation: generation, index: st.next(), created: make(map[string]uint64),
		shown: caRoots{TrustDomain: s.cfg.CA.TrustDomain()},
	}
	for _, root := range listed {
		shown := showRoot(root, strings.TrimSuffix(next.shown.TrustDomain, ".consul"))
		shown.CreateIndex, shown.ModifyIndex = next.index, next.index
		if at, known := r.created[shown.ID]; known {
			shown.CreateIndex = at
		}
		next.created[shown.ID] = shown.CreateIndex
		if shown.Active {
			next.shown.ActiveRootID = shown.ID
		}
		next.shown.Roots = append(next.shown.Roots, shown)
	}
	// Consul lists by ID: the active root may be anywhere.
	slices.SortFunc(next.shown.Roots, func(a, b caRoot) int { return strings.Compare(a.ID, b.ID) })
	*r = next
	return r
}

func showRoot(root meshsim.Root, cluster string) caRoot {
	c := root.Certificate
	id := sha1.Sum(c.Raw) //nolint:gosec // see the import
	out := caRoot{
		ID: hexPairs(id[:]), Name: "Consul CA Primary Cert", SerialNumber: low64(c.SerialNumber),
		SigningKeyID: hexPairs(root.Signer.SubjectKeyId), ExternalTrustDomain: cluster,
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), RootCert: certPEM(c), Active: root.Active,
		PrivateKeyType: "ec", PrivateKeyBits: 256,
	}
	for _, i := range root.Chain {
		out.IntermediateCerts = append(out.IntermediateCerts, certPEM(i))
	}
	return out
}

// low64 is what a serial number looks like in Consul's 64 bits.
func low64(n *big.Int) uint64 {
	return new(big.Int).And(n, new(big.Int).SetUint64(^uint64(0))).Uint64()
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// hexPairs is Consul's form of IDs and serial numbers, "0a:1b:2c".
func hexPairs(b []byte) string { return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":") }

func (x *exchange) clusterRoots() (any, error) {
	asPEM := false
	if v := x.query.Get("pem"); v != "" {
		var err error
		if asPEM, err = strconv.ParseBool(v); err != nil {
			return nil, badRequest("The 'pem' query parameter must be a boolean value")
		}
	}
	out, err := x.rootsPastIndex()
	if err != nil || !asPEM {
		return out, err
	}
	var b strings.Builder
	for _, r := range out.Roots {
		b.WriteString(r.RootCert + strings.Join(r.IntermediateCerts, ""))
	}
	return raw{http.StatusOK, "application/pem-certificate-chain", []byte(b.String())}, nil
}

// agentRoots is never older than clusterRoots, as an agent whose background
// refresh has no delay.
func (x *exchange) agentRoots() (any, error) {
	x.header.Set("X-Cache", "HIT")
	x.header.Set("Age", "0")
	return x.rootsPastIndex()
}

// rootsPastIndex answers with the roots once their index is past ?index=, or
// when ?wait= is over. No permission is needed.
func (x *exchange) rootsPastIndex() (caRoots, error) {
	known, wait, err := x.blocking()
	if err != nil {
		return caRoots{}, err
	}
	var out caRoots
	var index uint64
	x.await(wait, func() bool {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		r := x.s.currentRoots()
		out, index = r.shown, r.index
		return index > known
	})
	x.s.mu.Lock()
	_, err = x.store()
	x.s.mu.Unlock()
	if err != nil {
		return caRoots{}, err
	}
	x.meta(index)
	return out, nil
}

// blocking reads ?index= and ?wait=. An index of 0 is a plain read.
func (x *exchange) blocking() (index uint64, wait time.Duration, err error) {
	if v := x.query.Get("wait"); v != "" {
		if wait, err = time.ParseDuration(v); err != nil {
			return 0, 0, badRequest("Invalid wait time")
		}
	}
	if v := x.query.Get("index"); v != "" {
		if index, err = strconv.ParseUint(v, 10, 64); err != nil {
			return 0, 0, badRequest("Invalid index")
		}
	}
	if wait <= 0 {
		wait = defaultWait
	}
	return index, min(wait, maxWait), nil
}

// await calls ready until it is true, for at most d of real time, or until the
// client or the server leaves. It looks again and again since neither the CA nor
// the clock tells when it changes.
func (x *exchange) await(d time.Duration, ready func() bool) {
	end := time.Now().Add(d)
	for !ready() && time.Now().Before(end) && x.sleep(lookAgain) {
	}
}

// leafCache is what one agent has; the server's lock guards the map, the slot's
// own lock what is in it.
type leafCache map[leafKey]*leafSlot

type leafKey struct {
	scope scope
	name  string
}

// leafSlot is locked while its leaf is being made: an agent signs once for all
// who ask at the same time.
type leafSlot struct {
	mu     sync.Mutex
	leaf   *issuedCert // nil: none yet
	signer string      // SigningKeyID of the root that signed it
}

// issuedCert is a leaf as the agent shows it.
type issuedCert struct {
	SerialNumber  string
	CertPEM       string
	PrivateKeyPEM string
	Service       string
	ServiceURI    string
	ValidAfter    time.Time
	ValidBefore   time.Time
	Namespace     string `json:",omitempty"`
	Partition     string `json:",omitempty"`
	CreateIndex   uint64
	ModifyIndex   uint64
}

func (x *exchange) leaf() (any, error) {
	sc, err := x.oneScope()
	if err != nil {
		return nil, err
	}
	known, wait, err := x.blocking()
	if err != nil {
		return nil, err
	}
	name := x.r.PathValue("name")
	if name == "" {
		return nil, failed("URI must be either service, agent, server, or kind")
	}
	slot, err := x.leafSlot(leafKey{sc, name})
	if err != nil {
		return nil, err
	}
	x.header.Set("X-Cache", "MISS")
	var out *issuedCert
	x.await(wait, func() bool {
		out, err = x.renewed(slot, leafKey{sc, name}, known)
		return err != nil || out.ModifyIndex > known
	})
	if err != nil {
		return nil, err
	}
	x.header.Set("X-Consul-Index", strconv.FormatUint(out.ModifyIndex, 10))
	return out, nil
}

// leafSlot checks the request against datacenter and permission, and returns
// the slot of the agent whose turn it is.
func (x *exchange) leafSlot(key leafKey) (*leafSlot, error) {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	st, err := x.store()
	if err != nil {
		return nil, err
	}
	if local := x.s.stores[0]; st != local {
		return nil, failed("SPIFFE ID in CSR from a different datacenter: %s, we are %s", st.datacenter, local.datacenter)
	}
	a, err := x.authorize()
	if err != nil {
		return nil, err
	}
	if err := a.need(resourceService, write, key.name); err != nil {
		return nil, err
	}
	cache := x.s.leaves[x.s.turn]
	x.s.turn = (x.s.turn + 1) % len(x.s.leaves)
	if cache[key] == nil {
		cache[key] = new(leafSlot)
	}
	return cache[key], nil
}

// renewed returns the slot's leaf, a new one if it is due. A leaf that is
// there outlives a refusal to sign the next one.
func (x *exchange) renewed(slot *leafSlot, key leafKey, known uint64) (*issuedCert, error) {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	portion := hardRenewal
	if known > 0 {
		portion = softRenewal
	}
	if slot.leaf != nil && known > 0 && slot.leaf.ModifyIndex > known {
		x.header.Set("X-Cache", "HIT")
		x.header.Set("Age", "0")
		return slot.leaf, nil // news to the caller, whatever its age
	}
	if slot.leaf != nil && !slot.leaf.due(x.s.cfg.Now(), portion) && slot.signer == x.s.signer() {
		return slot.leaf, nil
	}
	if err := x.admitCSR(); err != nil {
		if slot.leaf != nil {
			return slot.leaf, nil
		}
		return nil, err
	}
	next, signer, err := x.s.sign(key)
	if err != nil {
		return nil, err
	}
	slot.leaf, slot.signer = next, signer
	return next, nil
}

// due reports whether portion of the leaf's life is over.
func (c *issuedCert) due(now time.Time, portion float64) bool {
	life := c.ValidBefore.Sub(c.ValidAfter)
	return life < shortLife || now.After(c.ValidAfter.Add(time.Duration(portion*float64(life))))
}

// signer is the SigningKeyID of the active root.
func (s *Server) signer() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.currentRoots().shown.Roots {
		if r.Active {
			return r.SigningKeyID
		}
	}
	return ""
}

// admitCSR waits for the rate limit, but not longer than Consul does.
func (x *exchange) admitCSR() error {
	if x.s.csr == nil {
		return nil
	}
	turn := x.s.csr.Reserve()
	if d := turn.Delay(); d > csrWait || !x.sleep(d) {
		turn.Cancel()
		return rateLimited
	}
	return nil
}

// sign makes a leaf by the server's clock. A CA configured for less than the
// life of a leaf of Consul's is not second-guessed.
func (s *Server) sign(key leafKey) (leaf *issuedCert, signer string, err error) {
	svc, err := mesh.NewService(key.name, key.scope.namespace, key.scope.partition)
	if err != nil {
		return nil, "", failed("making CSR: %v", err)
	}
	id, err := mesh.ServiceID(svc, s.cfg.Datacenters[0], s.cfg.CA.TrustDomain())
	if err != nil {
		return nil, "", failed("making CSR: %v", err)
	}
	from := s.cfg.Now().Add(-backdate)
	made, err := s.cfg.CA.Issue(id, meshsim.LeafOptions{NotBefore: from, NotAfter: from.Add(s.cfg.CA.LeafTTL())})
	if err != nil {
		return nil, "", failed("signing: %v", err)
	}
	c := made.Certificate.Leaf
	s.mu.Lock()
	idx := s.stores[0].next()
	s.mu.Unlock()
	return &issuedCert{
		SerialNumber: hexPairs(c.SerialNumber.Bytes()), CertPEM: made.CertPEM, PrivateKeyPEM: made.KeyPEM,
		Service: key.name, ServiceURI: id.String(), ValidAfter: c.NotBefore.UTC(), ValidBefore: c.NotAfter.UTC(),
		Namespace: s.shown(key.scope.namespace), Partition: s.shown(key.scope.partition), CreateIndex: idx, ModifyIndex: idx,
	}, hexPairs(c.AuthorityKeyId), nil
}
