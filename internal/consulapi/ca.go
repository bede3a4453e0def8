// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// Roots lists all trusted roots. None at all is an error: the mesh is off, or its CA has not started yet.
func (c *Client) Roots(ctx context.Context) (registrator.Roots, error) {
	op := operation{name: "listing CA roots"}
	var list *api.CARootList
	err := c.do(ctx, op, func(ctx context.Context) (err error) {
		list, _, err = c.api.Connect().CARoots(c.read(ctx, scope{}))
		return err
	})
	if err != nil {
		return registrator.Roots{}, err
	}
	if list.TrustDomain == "" || len(list.Roots) == 0 {
		return registrator.Roots{}, op.failed(ctx, 1, unusable("Consul has no root: is connect enabled?"))
	}
	slices.SortFunc(list.Roots, func(a, b *api.CARoot) int { return cmp.Compare(a.ID, b.ID) })
	roots := registrator.Roots{TrustDomain: list.TrustDomain}
	for _, r := range list.Roots {
		roots.PEM = append(roots.PEM, line(r.RootCertPEM))
	}
	if roots.ID, err = setID(roots.PEM); err != nil {
		return registrator.Roots{}, op.failed(ctx, 1, err)
	}
	return roots, nil
}

// setID is the same for the same certificates, whatever their order and the text around them. 64 bits of SHA-256 tell a handful of
// sets apart, not an attacker's: nothing is trusted because of it.
func setID(roots []string) (string, error) {
	var prints []string
	for _, root := range roots {
		rest, found := []byte(root), 0
		for block, next := pem.Decode(rest); block != nil; block, next = pem.Decode(next) {
			sum := sha256.Sum256(block.Bytes)
			prints, found = append(prints, string(sum[:])), found+1
		}
		if found == 0 {
			return "", unusable("a root is not PEM")
		}
	}
	slices.Sort(prints)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(prints), "")))
	return hex.EncodeToString(sum[:8]), nil
}

// line ends a PEM text with a newline, so that texts can be put one after the other.
func line(text string) string { return strings.TrimRight(text, "\r\n") + "\n" }

// Leaf reads a service's leaf. It waits for LeafRate: Consul may have to sign one.
func (c *Client) Leaf(ctx context.Context, s mesh.Service) (registrator.Leaf, error) {
	op := operation{name: "reading the leaf of", on: s.Name(), rule: serviceRule(s.Name(), "write"), limiter: c.leafs}
	var leaf *api.LeafCert
	err := c.do(ctx, op, func(ctx context.Context) (err error) {
		leaf, _, err = c.api.Agent().ConnectCALeaf(s.Name(), c.read(ctx, of("", s)))
		return err
	})
	switch {
	case err != nil:
		return registrator.Leaf{}, err
	case leaf.CertPEM == "" || leaf.PrivateKeyPEM == "" || leaf.ValidAfter.IsZero() || leaf.ValidBefore.IsZero():
		return registrator.Leaf{}, op.failed(ctx, 1, unusable("the answer lacks the certificate, the key or the validity"))
	}
	return registrator.Leaf{
		CertPEM: leaf.CertPEM, PrivateKeyPEM: leaf.PrivateKeyPEM, NotBefore: leaf.ValidAfter, NotAfter: leaf.ValidBefore,
	}, nil
}
