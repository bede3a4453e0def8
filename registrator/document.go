// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// maxDocument is the most that an Advanced parameter holds (Parameter Store, PutParameter).
const maxDocument = 8192

// documentFor encodes the document of a service of ours, with that leaf.
func (o *observation) documentFor(k Key, leaf Leaf) ([]byte, error) {
	document := mesh.Document{
		PrivateKeyPEM: leaf.PrivateKeyPEM,
		CertPEM:       leaf.CertPEM,
		RootCertPEM:   joinPEM(o.roots.PEM),
		TrustDomain:   o.roots.TrustDomain,
		Peers:         o.peersOf(k),
	}
	encoded, err := document.Encode()
	if err != nil {
		return nil, err
	}
	if len(encoded) > maxDocument {
		return nil, fmt.Errorf("the document of service %v takes %d bytes, a parameter holds %d: drop old CA roots, or use shorter certificate chains",
			k.Service, len(encoded), maxDocument)
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

// inputs digests what goes into a document besides the leaf and the roots: a change of it makes the document anew.
func inputs(path, trustDomain string, peers []mesh.DocumentPeer) string {
	encoded, err := json.Marshal([]any{path, trustDomain, peers})
	if err != nil {
		return "" // strings always encode
	}
	return digest(encoded)
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
