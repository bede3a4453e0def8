// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/url"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

const (
	trustDomain = "11111111-2222-3333-4444-555555555555.consul"
	datacenter  = "dc1"
	function    = "bench" // the function's name, and its service's
	upstream    = "web"   // the service that it calls
)

// pki is one root and the leaves of both ends, in Consul's shape with one addition: the server's leaf has its server name as DNS
// name too, because nginx cannot verify a chain without a name. No system gets another certificate.
type pki struct {
	sni        string
	rootPEM    []byte
	clientPEM  []byte
	clientKey  []byte // PEM
	roots      *x509.CertPool
	serverCert tls.Certificate
	clientCert tls.Certificate
}

func newPKI() (*pki, error) {
	p := &pki{roots: x509.NewCertPool()}
	web, err := mesh.NewService(upstream, "", "")
	if err != nil {
		return nil, err
	}
	self, err := mesh.NewService(function, "", "")
	if err != nil {
		return nil, err
	}
	sni, err := mesh.ServiceSNI(web, datacenter, trustDomain)
	if err != nil {
		return nil, err
	}
	p.sni = sni.String()
	webID, err := mesh.ServiceID(web, datacenter, trustDomain)
	if err != nil {
		return nil, err
	}
	selfID, err := mesh.ServiceID(self, datacenter, trustDomain)
	if err != nil {
		return nil, err
	}

	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the root: %w", err)
	}
	root := template(&url.URL{Scheme: "spiffe", Host: trustDomain})
	root.Subject = pkix.Name{CommonName: "pri." + trustDomain}
	root.IsCA = true
	root.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	root.ExtKeyUsage = nil
	der, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, fmt.Errorf("making the root: %w", err)
	}
	rootCert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	p.roots.AddCert(rootCert)
	p.rootPEM = certPEM(der)

	issue := func(t *x509.Certificate) (tls.Certificate, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("making a leaf: %w", err)
		}
		der, err := x509.CreateCertificate(rand.Reader, t, rootCert, &key.PublicKey, rootKey)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("making a leaf: %w", err)
		}
		leaf, err := x509.ParseCertificate(der)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
	}
	server := template(webID.URL())
	server.DNSNames = []string{p.sni}
	if p.serverCert, err = issue(server); err != nil {
		return nil, err
	}
	if p.clientCert, err = issue(template(selfID.URL())); err != nil {
		return nil, err
	}
	key, err := x509.MarshalECPrivateKey(p.clientCert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return nil, err
	}
	p.clientPEM = certPEM(p.clientCert.Certificate[0])
	p.clientKey = pem.EncodeToMemory(&pem.Block{Type: "EC " + "PRIVATE" + " KEY", Bytes: key})
	return p, nil
}

func template(name *url.URL) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		URIs:                  []*url.URL{name},
		NotBefore:             now.Add(-time.Minute),
		NotAfter:              now.Add(72 * time.Hour), // as Consul's leaves
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// document is the function's credential document in its stored form.
func (p *pki) document() ([]byte, error) {
	return mesh.Document{
		PrivateKeyPEM: string(p.clientKey),
		CertPEM:       string(p.clientPEM),
		RootCertPEM:   string(p.rootPEM),
		TrustDomain:   trustDomain,
	}.Encode()
}

// server is the destination's configuration; each server needs its own, for the tickets.
func (p *pki) server() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{p.serverCert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    p.roots,
		MinVersion:   tls.VersionTLS12,
	}
}

// client is the configuration of the floor without a proxy: sessions are resumed.
func (p *pki) client() *tls.Config {
	return &tls.Config{
		Certificates:       []tls.Certificate{p.clientCert},
		RootCAs:            p.roots,
		ServerName:         p.sni,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
}
