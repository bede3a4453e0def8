// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

const rewrite = "let the registrator write it anew (invoke it with an empty event), and see to it that nobody else writes this parameter"

// late is the share of a leaf's life that is left when a new one should have been there: Consul has one at 90 %, and the registrator
// asks for it in every run from 85 % on (G8).
const late = 0.08

// document looks at what was stored, in the order in which the extension would trip over it.
func document(_ context.Context, p *patient) []Result {
	if p.text == nil {
		return one(finding{name: "document"}.skip("it was not read"))
	}
	doc, err := mesh.ParseDocument(p.text)
	if err != nil {
		return one(finding{name: "document"}.fail(rewrite, "%v", err))
	}
	p.doc = doc
	results := roots(doc)
	pair, err := tls.X509KeyPair([]byte(doc.CertPEM), []byte(doc.PrivateKeyPEM))
	if err != nil {
		return append(results, finding{name: "key"}.fail(rewrite, "certPEM and privateKeyPEM: %v", err))
	}
	now := time.Now()
	results = append(results, finding{name: "key"}.ok("it is the leaf's"), life(pair.Leaf, now), chain(doc, pair.Leaf, now), p.identity(pair.Leaf))
	p.trusted = !failed(results)
	return results
}

// roots counts them, and names those that are of no use.
func roots(doc mesh.Document) []Result {
	f := finding{name: "document"}
	var results []Result
	good := 0
	certs, broken := certificates(doc.RootCertPEM)
	for _, cert := range certs {
		if time.Now().After(cert.NotAfter) {
			results = append(results, f.warn("let the registrator write it anew: Consul does not list this root for ever",
				"root %q expired at %s", cert.Subject.CommonName, cert.NotAfter.UTC().Format(time.RFC3339)))
			continue
		}
		good++
	}
	if broken > 0 {
		results = append(results, f.warn(rewrite, "%s of rootCertPEM cannot be read as a certificate", count(broken, "block")))
	}
	if good == 0 {
		return append(results, f.fail(rewrite, "it has no root that is valid now"))
	}
	detail := fmt.Sprintf("%s, trust domain %s", count(good, "root"), doc.TrustDomain)
	if n := len(doc.Peers); n > 0 {
		detail += ", " + count(n, "peer")
	}
	return append(results, f.ok("%s", detail))
}

// certificates reads the blocks of a PEM text, and counts those that are no certificate.
func certificates(text string) (certs []*x509.Certificate, broken int) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certs, broken
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, cert)
		} else {
			broken++
		}
	}
}

// chain asks what every sidecar will ask of our leaf.
func chain(doc mesh.Document, leaf *x509.Certificate, now time.Time) Result {
	f := finding{name: "chain"}
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return f.skip("the leaf is not valid now")
	}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	certs, _ := certificates(doc.RootCertPEM)
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	certs, _ = certificates(doc.CertPEM)
	for _, cert := range certs[min(1, len(certs)):] {
		between.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return f.fail("a root is missing: the CA was rotated, or leaf and roots are of different clusters; "+rewrite,
			"the document's own leaf does not lead to one of its roots: %v", err)
	}
	return f.ok("the leaf leads to a root")
}

// life tells how much of the leaf's is left.
func life(leaf *x509.Certificate, now time.Time) Result {
	f := finding{name: "leaf"}
	all, left := leaf.NotAfter.Sub(leaf.NotBefore), leaf.NotAfter.Sub(now)
	switch {
	case now.Before(leaf.NotBefore):
		return f.fail("set the clock of this machine, or of Consul's servers", "it is not valid before %s, and here it is %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case left <= 0:
		return f.fail("the registrator has not renewed it: look at its last run, its alarms and its heartbeat in the meta of Consul's node",
			"it expired at %s, %v ago", leaf.NotAfter.UTC().Format(time.RFC3339), (-left).Round(time.Second))
	case float64(left) < late*float64(all):
		return f.warn("look at the registrator's last run: a new leaf should have been there",
			"only %v of %v are left", left.Round(time.Second), all.Round(time.Second))
	}
	return f.ok("%v of %v left", left.Round(time.Second), all.Round(time.Second))
}

// identity compares who the leaf says we are with who we think we are.
func (p *patient) identity(leaf *x509.Certificate) Result {
	f := finding{name: "identity"}
	if n := len(leaf.URIs); n != 1 {
		return f.fail(rewrite, "the leaf has %d URI names, want one SPIFFE ID", n)
	}
	id, err := mesh.ParseID(leaf.URIs[0])
	if err != nil {
		return f.fail(rewrite, "the leaf's name: %v", err)
	}
	service, ok := id.Service()
	switch {
	case !ok:
		return f.fail(rewrite, "%s is not a service", id)
	case id.TrustDomain() != p.doc.TrustDomain:
		return f.fail(rewrite, "the leaf is of trust domain %s, the document of %s", id.TrustDomain(), p.doc.TrustDomain)
	case !strings.EqualFold(service.String(), p.env.Service.String()):
		return f.fail("was the document of another function copied, or does another account write below the same prefix? Else "+rewrite,
			"the leaf is of service %s, and this is %s: intentions are judged by the leaf", service, p.env.Service)
	}
	p.self = id
	return f.ok("%s", id)
}
