// SPDX-License-Identifier: MPL-2.0

package meshsim

import "github.com/consul-lambda/consul-lambda/mesh"

// Document issues a leaf for s and returns it with all listed roots, as the
// registrator would store it. It has no peers; see [CA.Peer].
func (ca *CA) Document(s mesh.Service, opts LeafOptions) (mesh.Document, error) {
	id, err := ca.ServiceID(s)
	if err != nil {
		return mesh.Document{}, err
	}
	leaf, err := ca.Issue(id, opts)
	if err != nil {
		return mesh.Document{}, err
	}
	return mesh.Document{
		PrivateKeyPEM: leaf.KeyPEM,
		CertPEM:       leaf.CertPEM,
		RootCertPEM:   ca.RootsPEM(),
		TrustDomain:   ca.TrustDomain(),
	}, nil
}

// Peer describes this CA's cluster to an importer: name is what the importer
// calls it, remoteName what this cluster calls the importer.
func (ca *CA) Peer(name, remoteName string) mesh.DocumentPeer {
	return mesh.DocumentPeer{
		Name:        name,
		TrustDomain: ca.TrustDomain(),
		RemoteName:  remoteName,
		Datacenter:  ca.Datacenter(),
		RootCertPEM: ca.RootsPEM(),
	}
}
