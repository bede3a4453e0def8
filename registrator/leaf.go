// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// When a leaf is asked for (G8). A plain read of Consul's leaf endpoint hands out what it has until 90 % of the leaf's life are over;
// a blocking watcher of the same server, or another server behind the same address, may have a newer one from 60 % on
// (agent/leafcert/util.go). So from 60 % an hourly question may be worth its cost, and from 85 % on each run asks, to catch the
// moment in which the 90 % are passed.
const (
	askFrom   = 0.60
	askAlways = 0.85
	renewedAt = 0.90
	askEvery  = time.Hour
)

// maxDocument is the most that an Advanced parameter holds (Parameter Store, PutParameter).
const maxDocument = 8192

// settle is how long the store's listing may lag behind a write: younger documents are not judged by it. UNCONFIRMED by AWS, which
// promises nothing; the cost of a long one is only that damage is seen that much later.
const settle = 5 * time.Minute

// documentChange says what k's document needs, why, and how urgently; nil for nothing.
func (o *observation) documentChange(k Key, path string, s stored) (*documentChange, string, urgency) {
	c := &documentChange{path: path, must: true, inputs: inputs(path, o.roots.TrustDomain, o.peersOf(k))}
	left, life := s.notAfter.Sub(o.at), s.notAfter.Sub(s.notBefore)
	u := urgentRepair
	if s.version != 0 && left < 2*o.slack {
		u = urgentLeaf
	}
	if o.peerless[k.realm().Partition] && s.version != 0 && u != urgentLeaf {
		return nil, "", 0 // it would lose its peers; a leaf without peers is only better than none
	}
	switch lost := o.documents.lost(path, s); {
	case s.version == 0:
		return c, "it has no document", u
	case s.roots != o.roots.metaID():
		return c, "the root certificates changed", min(u, urgentRoots)
	case s.inputs != c.inputs:
		return c, "the peers, the trust domain or the path of its document changed", u
	case o.unsettled[path] > s.version:
		return c, "a run that lost a race wrote over its document", u
	case lost != "":
		return c, lost, u
	}
	c.must = false
	used := float64(o.at.Sub(s.notBefore)) / float64(life)
	if used < askFrom || used < askAlways && o.at.Sub(o.asked[k]) < askEvery {
		return nil, "", 0
	}
	if u != urgentLeaf {
		u = urgentRenewal
	}
	return c, fmt.Sprintf("%.0f %% of its leaf's life are over", 100*used), u
}

// peersOf returns the peers that a document for k names, in the order of their names.
func (o *observation) peersOf(k Key) []mesh.DocumentPeer {
	return o.peers[k.realm().Partition]
}

// sortedPeers puts peers into the one order that makes equal documents equal.
func sortedPeers(peers []mesh.DocumentPeer) []mesh.DocumentPeer {
	if len(peers) == 0 {
		return nil
	}
	peers = slices.Clone(peers)
	slices.SortFunc(peers, func(a, b mesh.DocumentPeer) int { return strings.Compare(a.Name, b.Name) })
	return peers
}

// lost says what the store shows to be wrong with a document that the meta describes; "" for nothing, or if it does not show that.
func (l look) lost(path string, s stored) string {
	if !s.written.Before(l.from.Add(-settle)) {
		return ""
	}
	switch seen, ok := l.seen[path]; {
	case ok && seen.Version != s.version:
		return fmt.Sprintf("somebody else wrote version %d of its document", seen.Version)
	case !ok && l.whole:
		return "its document is gone"
	}
	return ""
}

// checkLeaf says whether a document with this leaf would work: the key fits, the leaf names the service, and it is valid now under
// one of the roots. It returns the leaf with the times of the certificate itself.
func checkLeaf(leaf Leaf, s mesh.Service, roots Roots, now time.Time) (Leaf, error) {
	pair, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM))
	if err != nil {
		return Leaf{}, errors.New("its certificate and key cannot be read, or do not belong together")
	}
	cert := pair.Leaf
	if len(cert.URIs) != 1 {
		return Leaf{}, fmt.Errorf("it has %d URIs: want its SPIFFE ID", len(cert.URIs))
	}
	id, err := mesh.ParseID(cert.URIs[0])
	if err != nil {
		return Leaf{}, err
	}
	want, err := mesh.ServiceID(s, id.Datacenter(), roots.TrustDomain)
	if err != nil {
		return Leaf{}, err
	}
	if !id.Matches(want) {
		return Leaf{}, fmt.Errorf("it names %s: want %s", id, want)
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, root := range roots.PEM {
		options.Roots.AppendCertsFromPEM([]byte(root))
	}
	for _, der := range pair.Certificate[1:] {
		if intermediate, err := x509.ParseCertificate(der); err == nil {
			options.Intermediates.AddCert(intermediate)
		}
	}
	if _, err := cert.Verify(options); err != nil {
		return Leaf{}, fmt.Errorf("it does not verify under the roots that Consul lists: %w", err)
	}
	leaf.NotBefore, leaf.NotAfter = cert.NotBefore, cert.NotAfter
	return leaf, nil
}

// encodeDocument makes the document for a service.
func encodeDocument(leaf Leaf, s mesh.Service, roots Roots, peers []mesh.DocumentPeer) ([]byte, error) {
	document := mesh.Document{
		PrivateKeyPEM: leaf.PrivateKeyPEM,
		CertPEM:       leaf.CertPEM,
		RootCertPEM:   joinPEM(roots.PEM),
		TrustDomain:   roots.TrustDomain,
		Peers:         peers,
	}
	encoded, err := document.Encode()
	if err != nil {
		return nil, err
	}
	if len(encoded) > maxDocument {
		return nil, fmt.Errorf("the document of service %v takes %d bytes, a parameter holds %d: drop old CA roots, or use shorter certificate chains",
			s, len(encoded), maxDocument)
	}
	return encoded, nil
}

// joinPEM concatenates blocks, each on lines of its own, with nothing in between: the size of a document is limited.
func joinPEM(blocks []string) string {
	var b strings.Builder
	for _, s := range blocks {
		for rest := []byte(s); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			block.Headers = nil
			b.Write(pem.EncodeToMemory(block))
		}
	}
	return b.String()
}
