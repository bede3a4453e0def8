// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// checkLeaf says whether a document with this leaf would work: the key fits, the leaf names the service, and it is valid now under
// one of the roots. It returns the leaf with the times of the certificate itself.
func (r Roots) checkLeaf(leaf Leaf, s mesh.Service, now time.Time) (Leaf, error) {
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
	want, err := mesh.ServiceID(s, id.Datacenter(), r.TrustDomain)
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
	for _, root := range r.PEM {
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
