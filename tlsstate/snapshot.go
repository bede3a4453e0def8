// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// Snapshot is everything that a dial needs to know, as of one credential document. It is immutable (rule R3).
type Snapshot struct {
	generation uint64
	digest     [32]byte // of the document
	id         mesh.ID
	notAfter   time.Time
	roots      int
	targets    []target // one per upstream, in the order of Config.Upstreams
}

// target is how to reach one upstream.
type target struct {
	sni     mesh.SNI
	configs []*tls.Config // one per gateway, in the order of Config.Gateways
	err     error         // why it cannot be reached, whatever the network does
}

// Generation counts the documents that became a snapshot, from 1.
func (s *Snapshot) Generation() uint64 { return s.generation }

// ID is our own identity, which the leaf proves.
func (s *Snapshot) ID() mesh.ID { return s.id }

// NotAfter is the end of the leaf's life.
func (s *Snapshot) NotAfter() time.Time { return s.notAfter }

// LogValue names the snapshot without a secret.
func (s *Snapshot) LogValue() slog.Value {
	return slog.GroupValue(slog.Uint64("generation", s.generation), slog.String("id", s.id.String()),
		slog.Time("not_after", s.notAfter), slog.Int("roots", s.roots))
}

// validAt reports whether the leaf may be used at that time.
func (s *Snapshot) validAt(wall time.Time) bool { return s != nil && !wall.After(s.notAfter) }

// settings is what a snapshot is made with besides the document.
type settings struct {
	upstreams  []mesh.Upstream
	gateways   int
	resumption bool
	clock      clock.Clock
}

// newSnapshot makes a snapshot of the document, or says what is wrong with it. The generation and digest are the
// caller's to set. Warnings are about parts that are left out.
func newSnapshot(doc mesh.Document, set settings) (snap *Snapshot, warnings []error, err error) {
	cert, err := tls.X509KeyPair([]byte(doc.CertPEM), []byte(doc.PrivateKeyPEM))
	if err != nil {
		// crypto/tls's errors say which of the two it could not read, or that they do not belong together; no content.
		return nil, nil, fmt.Errorf("certPEM and privateKeyPEM: %w", err)
	}
	leaf := cert.Leaf
	if len(leaf.URIs) != 1 {
		return nil, nil, fmt.Errorf("certPEM: the leaf has %d URI names, want one SPIFFE ID", len(leaf.URIs))
	}
	id, err := mesh.ParseID(leaf.URIs[0])
	if err != nil {
		return nil, nil, fmt.Errorf("certPEM: %w", err)
	}
	if _, ok := id.Service(); !ok {
		return nil, nil, fmt.Errorf("certPEM: %s is not the identity of a service", id)
	}
	if id.TrustDomain() != doc.TrustDomain {
		return nil, nil, fmt.Errorf("trustDomain is %q, but the leaf's is %q", doc.TrustDomain, id.TrustDomain())
	}
	now := set.clock.Now().Wall()
	if now.Before(leaf.NotBefore) {
		return nil, nil, fmt.Errorf("the leaf is not valid before %s, and it is %s: are the clocks set?", leaf.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if now.After(leaf.NotAfter) {
		return nil, nil, fmt.Errorf("the leaf expired at %s: has the registrator renewed it?", leaf.NotAfter.Format(time.RFC3339))
	}
	roots, count, err := parseRoots("rootCertPEM", doc.RootCertPEM)
	if err != nil {
		if count == 0 {
			return nil, nil, err
		}
		warnings = append(warnings, err)
	}

	snap = &Snapshot{id: id, notAfter: leaf.NotAfter, roots: count, targets: make([]target, len(set.upstreams))}
	own := &chains{roots: roots}
	peers := peerings{doc: doc, known: make(map[string]*chains), warn: func(err error) { warnings = append(warnings, err) }}
	for i, u := range set.upstreams {
		t := &snap.targets[i]
		v := &verifier{chains: own, clock: set.clock}
		if u.Peer() != "" {
			t.sni, v.allowed, v.chains, t.err = peers.target(u)
		} else {
			t.sni, v.allowed, t.err = local(u, id)
		}
		if t.err != nil {
			warnings = append(warnings, fmt.Errorf("upstream %s: %w", u, t.err))
			continue
		}
		t.configs = make([]*tls.Config, set.gateways)
		for g := range t.configs {
			t.configs[g] = v.config(&cert, t.sni, set.resumption)
		}
	}
	return snap, warnings, nil
}

// local is the name and identity of an upstream in our own trust domain.
func local(u mesh.Upstream, self mesh.ID) (mesh.SNI, []mesh.ID, error) {
	dc := u.Datacenter()
	if dc == "" {
		dc = self.Datacenter()
	}
	sni, err := mesh.ServiceSNI(u.Service(), dc, self.TrustDomain())
	if err != nil {
		return mesh.SNI{}, nil, err
	}
	id, err := mesh.ServiceID(u.Service(), dc, self.TrustDomain())
	return sni, []mesh.ID{id}, err
}

// peerings are what a document says of its peers.
type peerings struct {
	doc   mesh.Document
	known map[string]*chains // roots, parsed once per peer
	warn  func(error)        // is told of roots that are left out
}

// target is the name, the identities and the roots of an upstream across a peering. A tcp service shows its own identity
// through the gateways; for an http service the exporter's gateway terminates, and shows its own.
func (p *peerings) target(u mesh.Upstream) (mesh.SNI, []mesh.ID, *chains, error) {
	fail := func(err error) (mesh.SNI, []mesh.ID, *chains, error) { return mesh.SNI{}, nil, nil, err }
	peer, ok := p.doc.Peer(u.Peer())
	if !ok {
		return fail(fmt.Errorf("%w: the credential document has no peer %q", ErrPeerIncomplete, u.Peer()))
	}
	var missing []string
	for _, f := range []struct{ name, value string }{
		{"trustDomain", peer.TrustDomain}, {"remoteName", peer.RemoteName}, {"datacenter", peer.Datacenter}, {"rootCertPEM", peer.RootCertPEM},
	} {
		if f.value == "" {
			missing = append(missing, f.name)
		}
	}
	if missing != nil {
		return fail(fmt.Errorf("%w: the credential document does not give %s of peer %q", ErrPeerIncomplete, strings.Join(missing, ", "), u.Peer()))
	}
	sni, err := mesh.PeeredSNI(u.Service(), peer.RemoteName, peer.TrustDomain)
	if err != nil {
		return fail(err)
	}
	service, err := mesh.ServiceID(u.Service(), peer.Datacenter, peer.TrustDomain)
	if err != nil {
		return fail(err)
	}
	gateway, err := mesh.GatewayID(u.Service().Partition(), peer.Datacenter, peer.TrustDomain)
	if err != nil {
		return fail(err)
	}
	if p.known[u.Peer()] == nil {
		roots, count, err := parseRoots("rootCertPEM of peer "+u.Peer(), peer.RootCertPEM)
		if count == 0 {
			return fail(fmt.Errorf("%w: %w", ErrPeerIncomplete, err))
		}
		if err != nil {
			p.warn(err)
		}
		p.known[u.Peer()] = &chains{roots: roots}
	}
	return sni, []mesh.ID{service, gateway}, p.known[u.Peer()], nil
}

// config is the one place where a tls.Config is made (rule R4).
func (v *verifier) config(cert *tls.Certificate, sni mesh.SNI, resumption bool) *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: sni.String(),

		// P-256 is the one group that every TLS 1.3 server must have (RFC 8446 section 9.1), and the cheapest that Go has:
		// 66 µs for key and secret, where X25519 takes 98 µs. ML-KEM, which crypto/tls would offer first, adds a quarter to a
		// handshake, and sidecars do not choose it unless they are told to.
		CurvePreferences: []tls.CurveID{tls.CurveP256, tls.CurveP384},

		// Full records from the start. crypto/tls would begin with one per TCP segment, so that a browser can show the first
		// of them early: five system calls for the first 16 KiB instead of one (see corkFrom).
		DynamicRecordSizingDisabled: true,

		// A mesh leaf has no host name to verify. VerifyConnection does what is skipped here, and more: see verifier.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection:   v.verify,

		// Given by function, because crypto/tls would send no certificate at all if the server's list of authorities did
		// not name our root, as it may not in a rotation.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	}
	if resumption {
		cfg.ClientSessionCache = new(session)
	}
	return cfg
}

// parseRoots reads all certificates of a PEM text (rule R2). One that cannot be read is left out and told in err;
// count is how many were read.
func parseRoots(field, text string) (pool *x509.CertPool, count int, err error) {
	pool = x509.NewCertPool()
	blocks := 0
	var errs []error
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks++
		if block.Type != "CERTIFICATE" {
			errs = append(errs, fmt.Errorf("%s: PEM block %d is a %s, want a CERTIFICATE", field, blocks, block.Type))
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: PEM block %d: %w", field, blocks, err))
			continue
		}
		pool.AddCert(cert)
		count++
	}
	if blocks == 0 {
		errs = append(errs, fmt.Errorf("%s holds no PEM certificate", field))
	}
	return pool, count, join(errs)
}
