// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

func newCA(t testing.TB, cfg CAConfig) *CA {
	t.Helper()
	ca, err := NewCA(cfg)
	ok(t, err)
	return ca
}

// blocks returns the certificates of a PEM bundle.
func blocks(t testing.TB, bundle string) []*x509.Certificate {
	t.Helper()
	var certs []*x509.Certificate
	for rest := []byte(bundle); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return certs
		}
		c, err := x509.ParseCertificate(b.Bytes)
		ok(t, err)
		certs = append(certs, c)
	}
}

// verify returns what a verifier with these roots says about a leaf and its chain.
func verify(t testing.TB, l *Leaf, roots ...*x509.Certificate) error {
	t.Helper()
	pool, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	for _, c := range blocks(t, l.CertPEM)[1:] {
		intermediates.AddCert(c)
	}
	_, err := l.Certificate.Leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: intermediates,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// FACTS of Consul: a URI name only, both ends of TLS, P-256, a minute of grace.
func TestLeafLooksLikeConsuls(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{TrustDomain: "td.consul", Datacenter: "east", LeafTTL: time.Hour})
	l := issue(t, ca, "web", LeafOptions{})
	c := l.Certificate.Leaf
	if len(c.URIs) != 1 || c.URIs[0].String() != "spiffe://td.consul/ns/default/dc/east/svc/web" {
		t.Errorf("URI names %v", c.URIs)
	}
	if n := len(c.DNSNames) + len(c.IPAddresses) + len(c.EmailAddresses); n != 0 {
		t.Errorf("%d other names", n)
	}
	if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		t.Errorf("usage %v", c.ExtKeyUsage)
	}
	if pub, isEC := c.PublicKey.(*ecdsa.PublicKey); !isEC || pub.Curve != elliptic.P256() {
		t.Errorf("key %T", c.PublicKey)
	}
	if life := c.NotAfter.Sub(c.NotBefore); life != time.Hour+time.Minute {
		t.Errorf("valid for %v, want an hour and the minute before", life)
	}
	if c.SerialNumber.BitLen() < 32 || l.Serial() == issue(t, ca, "web", LeafOptions{}).Serial() {
		t.Error("serial number is not random")
	}
	if root := blocks(t, ca.RootsPEM())[0]; len(root.URIs) != 1 || root.URIs[0].String() != "spiffe://td.consul" {
		t.Errorf("root's URI names %v", root.URIs)
	}
	if _, err := tls.X509KeyPair([]byte(l.CertPEM), []byte(l.KeyPEM)); err != nil {
		t.Errorf("PEM pair: %v", err)
	}
}

func TestLeafLivesAsLongAsAsked(t *testing.T) {
	t.Parallel()
	from := time.Now().Add(-time.Hour).Truncate(time.Second)
	to := from.Add(90 * time.Minute)
	c := issue(t, newCA(t, CAConfig{}), "web", LeafOptions{NotBefore: from, NotAfter: to}).Certificate.Leaf
	if !c.NotBefore.Equal(from) || !c.NotAfter.Equal(to) {
		t.Errorf("valid %v to %v, want %v to %v", c.NotBefore, c.NotAfter, from, to)
	}
}

// R2 rests on this: a bundle with all roots verifies leaves of all ages.
func TestRotationKeepsOldRootsListedUntilPruned(t *testing.T) {
	t.Parallel()
	for _, cfg := range []CAConfig{{}, {Intermediate: true}, {NoCrossSign: true}, {Intermediate: true, NoCrossSign: true}} {
		ca := newCA(t, cfg)
		before := issue(t, ca, "web", LeafOptions{})
		if n := len(blocks(t, before.CertPEM)); (n == 2) != cfg.Intermediate {
			t.Errorf("%+v: chain of %d", cfg, n)
		}
		ok(t, ca.Rotate())
		after := issue(t, ca, "web", LeafOptions{})
		roots := blocks(t, ca.RootsPEM())
		if len(roots) != 2 {
			t.Fatalf("%+v: %d roots after a rotation, want 2", cfg, len(roots))
		}
		for name, l := range map[string]*Leaf{"before": before, "after": after} {
			if err := verify(t, l, roots...); err != nil {
				t.Errorf("%+v: leaf from %s the rotation under all roots: %v", cfg, name, err)
			}
		}
		if err := verify(t, before, roots[1]); err == nil {
			t.Errorf("%+v: old leaf verifies under the active root, which should be last", cfg)
		}
		if err := verify(t, after, roots[0]); (err == nil) == cfg.NoCrossSign {
			t.Errorf("%+v: new leaf under the old root only: %v", cfg, err)
		}

		ca.Prune()
		if roots := blocks(t, ca.RootsPEM()); len(roots) != 1 || verify(t, after, roots[0]) != nil {
			t.Errorf("%+v: %d roots after pruning", cfg, len(roots))
		}
		pruned := issue(t, ca, "web", LeafOptions{})
		if n := len(blocks(t, pruned.CertPEM)); (n == 2) != cfg.Intermediate {
			t.Errorf("%+v: chain of %d after pruning", cfg, n)
		}
		if g := ca.Generation(); g != 3 {
			t.Errorf("%+v: generation %d, want 3", cfg, g)
		}
	}
}

// R1: what a verifier has to refuse. Each flaw must be that flaw and no other.
func TestEachFlawIsWhatItSays(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{})
	id := serviceID(t, ca, "web")
	root := blocks(t, ca.RootsPEM())
	words := make(map[string]bool)
	for _, flaw := range append(Flaws(), Sound) {
		if words[flaw.String()] {
			t.Errorf("two flaws are called %q", flaw)
		}
		words[flaw.String()] = true
		l := issue(t, ca, "web", LeafOptions{Flaw: flaw})
		c := l.Certificate.Leaf
		_, pairErr := tls.X509KeyPair([]byte(l.CertPEM), []byte(l.KeyPEM))
		named := len(c.URIs) == 1
		if named {
			got, err := mesh.ParseID(c.URIs[0])
			ok(t, err)
			named = got.Matches(id)
		}
		facts := map[string]bool{
			"chain verifies": verify(t, l, root...) == nil,
			"key fits":       pairErr == nil,
			"named for id":   named,
			"began":          c.NotBefore.Before(time.Now()),
			"not ended":      c.NotAfter.After(time.Now()),
		}
		want := map[string]bool{"chain verifies": true, "key fits": true, "named for id": true, "began": true, "not ended": true}
		switch flaw {
		case Expired:
			want["chain verifies"], want["not ended"] = false, false
		case NotYetValid:
			want["chain verifies"], want["began"] = false, false
		case ForeignCA, WrongUsage:
			want["chain verifies"] = false
		case MismatchedKey:
			want["key fits"] = false
		case TwoURIs, NoURI, OtherIdentity:
			want["named for id"] = false
		}
		for fact := range want {
			if facts[fact] != want[fact] {
				t.Errorf("%v: %q is %v, want %v", flaw, fact, facts[fact], want[fact])
			}
		}
	}
}

func TestDocumentSurvivesTheStore(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{Intermediate: true})
	ok(t, ca.Rotate())
	peer := newCA(t, CAConfig{TrustDomain: "peer.consul", Datacenter: "west"})
	doc, err := ca.Document(service(t, "fn"), LeafOptions{})
	ok(t, err)
	doc.Peers = append(doc.Peers, peer.Peer("west", "us"))
	raw, err := doc.Encode()
	ok(t, err)
	back, err := mesh.ParseDocument(raw)
	ok(t, err)
	if _, err := tls.X509KeyPair([]byte(back.CertPEM), []byte(back.PrivateKeyPEM)); err != nil {
		t.Error(err)
	}
	if n := len(blocks(t, back.RootCertPEM)); n != 2 {
		t.Errorf("%d roots, want 2", n)
	}
	if p, found := back.Peer("west"); !found || p.RootCertPEM != peer.RootsPEM() || p.RemoteName != "us" || p.Datacenter != "west" {
		t.Errorf("peer %+v", p)
	}
}

func TestIntentionsIgnoreTheDatacenterOnly(t *testing.T) {
	t.Parallel()
	east, west := newCA(t, CAConfig{Datacenter: "east"}), newCA(t, CAConfig{Datacenter: "west"})
	other := newCA(t, CAConfig{TrustDomain: "other.consul"})
	var in Intentions
	check := func(ca *CA, name string, want Action) {
		t.Helper()
		if got := in.Check(serviceID(t, ca, name)); got != want {
			t.Errorf("%s in %s: %v, want %v", name, ca.Datacenter(), got, want)
		}
	}
	check(east, "a", Allow)
	in.SetDefault(Deny)
	in.Set(serviceID(t, east, "a"), Allow)
	check(east, "a", Allow)
	check(west, "a", Allow)
	check(east, "b", Deny)
	check(other, "a", Deny)
	in.Unset(serviceID(t, west, "a"))
	check(east, "a", Deny)
}

func TestRootsAreListedOldestFirstAndTheLastIsActive(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{Intermediate: true, LeafTTL: time.Hour})
	before, generation := ca.Roots()
	if len(before) != 1 || !before[0].Active || generation != ca.Generation() {
		t.Fatalf("a new CA lists %d roots in generation %d, active: %v", len(before), generation, before[0].Active)
	}
	ok(t, ca.Rotate())
	after, next := ca.Roots()
	if len(after) != 2 || after[0].Active || !after[1].Active || next == generation {
		t.Fatalf("after a rotation: %d roots, generation %d then %d", len(after), generation, next)
	}
	if !after[0].Certificate.Equal(before[0].Certificate) {
		t.Error("the older root is not the first")
	}
	id, err := ca.ServiceID(service(t, "web"))
	ok(t, err)
	leaf, err := ca.Issue(id, LeafOptions{})
	ok(t, err)
	if !slices.Equal(leaf.Certificate.Leaf.AuthorityKeyId, after[1].Signer.SubjectKeyId) {
		t.Error("the leaf was not signed by the active root's signer")
	}
	if got := len(blocks(t, leaf.CertPEM)) - 1; got != len(after[1].Chain) {
		t.Errorf("%d certificates follow the leaf, the root's chain has %d", got, len(after[1].Chain))
	}
	if life := leaf.Certificate.Leaf.NotAfter.Sub(leaf.Certificate.Leaf.NotBefore); life < ca.LeafTTL() {
		t.Errorf("a leaf lives %v, less than the CA's %v", life, ca.LeafTTL())
	}
}
