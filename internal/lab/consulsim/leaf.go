// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"net/http"
	"strconv"
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
)

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

var rateLimited = &failure{http.StatusTooManyRequests, "Rate limit reached, try again later"}
