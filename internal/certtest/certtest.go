// SPDX-License-Identifier: MPL-2.0

package certtest

import (
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// CA is a [meshsim.CA] whose helpers fail the test instead of returning an error.
type CA struct{ *meshsim.CA }

// NewCA makes a CA, as described by the first cfg, if there is one.
func NewCA(t testing.TB, cfg ...meshsim.CAConfig) CA {
	t.Helper()
	var c meshsim.CAConfig
	if len(cfg) > 0 {
		c = cfg[0]
	}
	ca, err := meshsim.NewCA(c)
	must(t, err)
	return CA{ca}
}

// Service returns the service of that name in the default namespace and partition.
func Service(t testing.TB, name string) mesh.Service {
	t.Helper()
	s, err := mesh.NewService(name, "", "")
	must(t, err)
	return s
}

// ID returns the identity of s in the CA's datacenter and trust domain.
func (ca CA) ID(t testing.TB, s mesh.Service) mesh.ID {
	t.Helper()
	id, err := ca.ServiceID(s)
	must(t, err)
	return id
}

// SNI returns the server name of s in the CA's datacenter and trust domain.
func (ca CA) SNI(t testing.TB, s mesh.Service) mesh.SNI {
	t.Helper()
	sni, err := mesh.ServiceSNI(s, ca.Datacenter(), ca.TrustDomain())
	must(t, err)
	return sni
}

// Leaf issues a sound leaf for id.
func (ca CA) Leaf(t testing.TB, id mesh.ID) *meshsim.Leaf {
	t.Helper()
	return ca.BadLeaf(t, id, meshsim.Sound)
}

// BadLeaf issues a leaf for id with a flaw.
func (ca CA) BadLeaf(t testing.TB, id mesh.ID, flaw meshsim.Flaw) *meshsim.Leaf {
	t.Helper()
	leaf, err := ca.Issue(id, meshsim.LeafOptions{Flaw: flaw})
	must(t, err)
	return leaf
}

// Doc issues credentials for s, with the leaf described by the first opts, if
// there is one.
func (ca CA) Doc(t testing.TB, s mesh.Service, opts ...meshsim.LeafOptions) mesh.Document {
	t.Helper()
	var o meshsim.LeafOptions
	if len(opts) > 0 {
		o = opts[0]
	}
	doc, err := ca.Document(s, o)
	must(t, err)
	return doc
}

// Document returns the credentials of a function called name, from a CA of
// its own: for tests that need any document.
func Document(t testing.TB, name string) mesh.Document {
	t.Helper()
	return NewCA(t).Doc(t, Service(t, name))
}

// Encode returns the stored form of doc.
func Encode(t testing.TB, doc mesh.Document) []byte {
	t.Helper()
	raw, err := doc.Encode()
	must(t, err)
	return raw
}

// Rotate makes a new active root.
func (ca CA) Rotate(t testing.TB) {
	t.Helper()
	must(t, ca.CA.Rotate())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("certtest: %v", err)
	}
}
