// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// with returns doc as it is stored, with one field replaced; a shape that mesh refuses to write is wanted here.
func with(t testing.TB, doc mesh.Document, field string, value any) []byte {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(certtest.Encode(t, doc), &fields); err != nil {
		t.Fatal(err)
	}
	fields[field] = value
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// secrets are the pieces of a private key that must be seen nowhere.
func secrets(keyPEM string) []string {
	lines := strings.Split(strings.TrimSpace(keyPEM), "\n")
	body := strings.Join(lines[1:len(lines)-1], "")
	var pieces []string
	for i := 0; i+12 <= len(body); i++ {
		pieces = append(pieces, body[i:i+12])
	}
	return pieces
}

// R12, R18: a document that cannot be used changes nothing, is told in one line that names what is wrong, and shows
// nothing of itself.
func TestUnusableDocumentLeavesTheLastGoodOne(t *testing.T) {
	t.Parallel()
	type broken struct {
		data []byte
		key  string // that is in it
		want string // in the error
	}
	flawed := func(flaw meshsim.Flaw, want string) func(*testing.T, certtest.CA) broken {
		return func(t *testing.T, ca certtest.CA) broken {
			doc := ca.Doc(t, certtest.Service(t, "fn"), meshsim.LeafOptions{Flaw: flaw})
			return broken{certtest.Encode(t, doc), doc.PrivateKeyPEM, want}
		}
	}
	altered := func(want string, alter func(doc *mesh.Document)) func(*testing.T, certtest.CA) broken {
		return func(t *testing.T, ca certtest.CA) broken {
			doc := ca.Doc(t, certtest.Service(t, "fn"))
			alter(&doc)
			return broken{certtest.Encode(t, doc), doc.PrivateKeyPEM, want}
		}
	}
	replaced := func(field string, value any) func(*testing.T, certtest.CA) broken {
		return func(t *testing.T, ca certtest.CA) broken {
			doc := ca.Doc(t, certtest.Service(t, "fn"))
			return broken{with(t, doc, field, value), doc.PrivateKeyPEM, field}
		}
	}
	raw := func(want string, cut func(string) string) func(*testing.T, certtest.CA) broken {
		return func(t *testing.T, ca certtest.CA) broken {
			doc := ca.Doc(t, certtest.Service(t, "fn"))
			return broken{[]byte(cut(string(certtest.Encode(t, doc)))), doc.PrivateKeyPEM, want}
		}
	}
	for name, make := range map[string]func(*testing.T, certtest.CA) broken{
		"key of another certificate": flawed(meshsim.MismatchedKey, "private key does not match"),
		"expired":                    flawed(meshsim.Expired, "the leaf expired at 1999-12-31T23:59:00Z"),
		"not yet valid":              flawed(meshsim.NotYetValid, "not valid before 2000-01-01T01:00:00Z"),
		"two identities":             flawed(meshsim.TwoURIs, "2 URI names"),
		"no identity":                flawed(meshsim.NoURI, "0 URI names"),
		"leaf of a gateway": func(t *testing.T, ca certtest.CA) broken {
			leaf := ca.Leaf(t, gatewayID(t, "", "dc1", ca.TrustDomain()))
			doc := ca.Doc(t, certtest.Service(t, "fn"))
			doc.CertPEM, doc.PrivateKeyPEM = leaf.CertPEM, leaf.KeyPEM
			return broken{certtest.Encode(t, doc), leaf.KeyPEM, "not the identity of a service"}
		},
		"empty":                      raw("credential document", func(string) string { return "" }),
		"garbage":                    raw("credential document", func(s string) string { return "garbage" + s }),
		"cut in the middle":          raw("credential document", func(s string) string { return s[:len(s)/2] }),
		"cut within the key":         raw("credential document", func(s string) string { return s[:100] }),
		"two of them":                raw("credential document", func(s string) string { return s + s }),
		"null":                       raw("credential document", func(string) string { return "null" }),
		"a list":                     raw("credential document", func(s string) string { return "[" + s + "]" }),
		"something else":             raw("credential document", func(string) string { return `{"hello":"world"}` }),
		"no roots":                   replaced("rootCertPEM", ""),
		"roots that are no PEM":      replaced("rootCertPEM", "roots"),
		"no key":                     replaced("privateKeyPEM", ""),
		"key that is no PEM":         replaced("privateKeyPEM", "key"),
		"no certificate":             replaced("certPEM", ""),
		"no trust domain":            replaced("trustDomain", ""),
		"a number for the key":       replaced("privateKeyPEM", 7),
		"key and leaf swapped":       altered("certPEM and privateKeyPEM", func(d *mesh.Document) { d.CertPEM, d.PrivateKeyPEM = d.PrivateKeyPEM, d.CertPEM }),
		"key among the roots only":   altered("rootCertPEM", func(d *mesh.Document) { d.RootCertPEM = d.PrivateKeyPEM }),
		"no root that can be read":   altered("rootCertPEM", func(d *mesh.Document) { d.RootCertPEM = badCertificate + badCertificate }),
		"leaf that cannot be read":   altered("certPEM", func(d *mesh.Document) { d.CertPEM = badCertificate }),
		"another trust domain":       altered(`trustDomain is "other.consul"`, func(d *mesh.Document) { d.TrustDomain = "other.consul" }),
		"trust domain in other case": altered("trustDomain is", func(d *mesh.Document) { d.TrustDomain = strings.ToUpper(d.TrustDomain) }),
	} {
		check := func(t *testing.T, bad broken, key, text string) {
			t.Helper()
			for _, k := range []string{bad.key, key} {
				for _, piece := range secrets(k) {
					if strings.Contains(text, piece) {
						t.Fatalf("a piece of the key was told: %s", text)
					}
				}
			}
		}
		t.Run(name+"/after a good one", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ca := certtest.NewCA(t)
				good := ca.Doc(t, certtest.Service(t, "fn"))
				w := start(t, storeOf(t, good), tlsstate.Config{})
				first := w.ready(t)
				bad := make(t, ca)
				w.store.put(bad.data)
				time.Sleep(5 * time.Minute)
				if w.store.count() < 2 {
					t.Fatal("the document was not read again")
				}
				if w.ready(t) != first {
					t.Error("the last good snapshot was given up")
				}
				if n := w.log.Count("refresh failed, the last good credentials stay in use"); n == 0 || w.log.Count(`"level":"ERROR"`) != 0 {
					t.Errorf("the failure was not told, or as an error:\n%s", w.log)
				}
				check(t, bad, good.PrivateKeyPEM, w.log.String())

				w.store.put(certtest.Encode(t, ca.Doc(t, certtest.Service(t, "fn"))))
				time.Sleep(5 * time.Minute)
				if got := w.ready(t).Generation(); got != 2 {
					t.Errorf("a good document came and the generation is %d", got)
				}
			})
		})
		t.Run(name+"/as the first", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ca := certtest.NewCA(t)
				bad := make(t, ca)
				source := new(store)
				source.put(bad.data)
				w := start(t, source, tlsstate.Config{})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_, err := w.Dial(ctx, 0)
				if !errors.Is(err, tlsstate.ErrNoCredentials) || !strings.Contains(err.Error(), bad.want) {
					t.Errorf("error %v, want one about %q", err, bad.want)
				}
				if err != nil && strings.Contains(err.Error(), "\n") {
					t.Errorf("more than one line: %q", err)
				}
				check(t, bad, bad.key, err.Error()+w.log.String())
			})
		})
	}
}

// Section 3.2 of the design: a peer written by the predecessor lacks what is needed to call it, and its upstreams fail at
// once, while the others work.
func TestPeeredUpstreamFailsClosedWithoutAllThatItNeeds(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	peer := certtest.NewCA(t, meshsim.CAConfig{TrustDomain: "peer.consul", Datacenter: "dc9"})
	whole := peer.Peer("east", "we-there")
	for name, tc := range map[string]struct {
		peers []mesh.DocumentPeer
		want  string
	}{
		"no peers":       {nil, `no peer "east"`},
		"another peer":   {[]mesh.DocumentPeer{peer.Peer("west", "we-there")}, `no peer "east"`},
		"no remoteName":  {[]mesh.DocumentPeer{{Name: "east", TrustDomain: "peer.consul", Datacenter: "dc9", RootCertPEM: whole.RootCertPEM}}, "remoteName of"},
		"no datacenter":  {[]mesh.DocumentPeer{{Name: "east", TrustDomain: "peer.consul", RemoteName: "we-there", RootCertPEM: whole.RootCertPEM}}, "datacenter of"},
		"no rootCertPEM": {[]mesh.DocumentPeer{{Name: "east", TrustDomain: "peer.consul", RemoteName: "we-there", Datacenter: "dc9"}}, "rootCertPEM of"},
		"bad roots":      {[]mesh.DocumentPeer{{Name: "east", TrustDomain: "peer.consul", RemoteName: "we-there", Datacenter: "dc9", RootCertPEM: badCertificate}}, "rootCertPEM of"},
		"as the predecessor writes it": {[]mesh.DocumentPeer{{Name: "east", TrustDomain: "peer.consul"}},
			"remoteName, datacenter, rootCertPEM of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := ca.Doc(t, certtest.Service(t, "fn"))
			doc.Peers = tc.peers
			w := start(t, storeOf(t, doc), tlsstate.Config{
				Upstreams: upstreams(t, "web.svc.east.peer:8080,web:8081"),
				Gateways:  []string{destination(t, serverConfig(ca.Leaf(t, id(t, ca, "web"))))},
			})
			for range 3 {
				if err := w.refused(t, 0); !errors.Is(err, tlsstate.ErrPeerIncomplete) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want ErrPeerIncomplete about %q", err, tc.want)
				}
			}
			w.dial(t, 1)
			w.readAgain(t)
			if n := w.log.Count(`"level":"WARN"`); n != 1 || w.log.Count(`web.svc.east.peer:8080`) != 1 {
				t.Errorf("%d warnings, want one that names the upstream:\n%s", n, w.log)
			}
		})
	}
}

// What a snapshot says of itself, and to the log.
func TestSnapshotDescribesItself(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	ca.Rotate(t)
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	doc := ca.Doc(t, certtest.Service(t, "fn"), meshsim.LeafOptions{NotAfter: until})
	w := start(t, storeOf(t, doc), tlsstate.Config{})
	snap := w.ready(t)
	if snap.ID() != id(t, ca, "fn") || !snap.NotAfter().Equal(until) || snap.Generation() != 1 {
		t.Errorf("snapshot of %s until %v, generation %d", snap.ID(), snap.NotAfter(), snap.Generation())
	}
	waittest.Until(t, "a line about it", func() bool { return w.log.Count("credentials in use") == 1 })
	for _, want := range []string{`"level":"INFO"`, `"generation":1`, `"roots":2`, snap.ID().String()} {
		if w.log.Count(want) != 1 {
			t.Errorf("the log does not have %s:\n%s", want, w.log)
		}
	}
	for _, piece := range secrets(doc.PrivateKeyPEM) {
		if strings.Contains(w.log.String(), piece) {
			t.Fatal("a piece of the key is in the log")
		}
	}
}

// A configuration that cannot work is refused before anything runs.
func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]tlsstate.Config{
		"no source":        {Gateways: []string{"127.0.0.1:8443"}},
		"no gateway":       {Source: new(store)},
		"no port":          {Source: new(store), Gateways: []string{"127.0.0.1"}},
		"empty port":       {Source: new(store), Gateways: []string{"127.0.0.1:"}},
		"port 0":           {Source: new(store), Gateways: []string{"127.0.0.1:0"}},
		"port too large":   {Source: new(store), Gateways: []string{"127.0.0.1:65536"}},
		"port by name":     {Source: new(store), Gateways: []string{"127.0.0.1:https"}},
		"no host":          {Source: new(store), Gateways: []string{":8443"}},
		"bare v6":          {Source: new(store), Gateways: []string{"::1:8443"}},
		"one bad of three": {Source: new(store), Gateways: []string{"a:1", "b", "c:3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := tlsstate.New(cfg); err == nil || !strings.HasPrefix(err.Error(), "tlsstate: ") {
				t.Errorf("error %v, want one", err)
			}
		})
	}
}
