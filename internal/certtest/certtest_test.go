// SPDX-License-Identifier: MPL-2.0

package certtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

func TestDocumentIsReadableAndItsPairFits(t *testing.T) {
	t.Parallel()
	doc, err := mesh.ParseDocument(certtest.Encode(t, certtest.Document(t, "fn")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair([]byte(doc.CertPEM), []byte(doc.PrivateKeyPEM)); err != nil {
		t.Error(err)
	}
}

func TestLeafIsOfItsCAAndABadOneIsNot(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t, meshsim.CAConfig{Datacenter: "east"})
	web := certtest.Service(t, "web")
	id := ca.ID(t, web)
	if id.Datacenter() != "east" || ca.SNI(t, web).String() != "web.default.east.internal."+ca.TrustDomain() {
		t.Errorf("identity %v, server name %v", id, ca.SNI(t, web))
	}
	verify := func(l *meshsim.Leaf) error {
		_, err := l.Certificate.Leaf.Verify(x509.VerifyOptions{Roots: ca.RootsPool()})
		return err
	}
	if err := verify(ca.Leaf(t, id)); err != nil {
		t.Error(err)
	}
	if err := verify(ca.BadLeaf(t, id, meshsim.Expired)); err == nil {
		t.Error("expired leaf verifies")
	}
	before := ca.RootsPEM()
	ca.Rotate(t)
	if doc := ca.Doc(t, web, meshsim.LeafOptions{}); doc.RootCertPEM == before {
		t.Error("roots did not change with a rotation")
	}
}
