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
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
)

const (
	// Bounds and default of ?wait=, and how often a waiting request looks.
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
	lookAgain   = 5 * time.Millisecond
)

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
