// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// Peers lists the peerings that are established: active ones, and those whose control stream is interrupted just now (FAILING),
// through which services are still reached. They are sorted by name.
//
// Consul's HTTP API does not show a peer's trust bundle, but its parts:
//
//   - RootCertPEM is PeerCAPems. Consul replaces it whenever the peer sends its trust bundle
//     (PeeringTrustBundleWrite in agent/consul/state/peering.go), so these are the roots of the peer's mesh, all of them.
//   - Datacenter is the peering's own record of it.
//   - RemoteName and TrustDomain are in the server name that the peer gives to each service it exports to us. Before there is one,
//     TrustDomain is that of PeerServerName, which only the side that dialled has, or of a root with a SPIFFE ID, as those of
//     Consul's built-in CA have; RemoteName is "" then.
//
// A peering whose trust domain cannot be had is left out, with a warning. A Consul without peering has no peers.
func (c *Client) Peers(ctx context.Context, partition string) ([]mesh.DocumentPeer, error) {
	op := operation{name: "listing peerings", rule: `peering = "read"`, slow: true}
	in := scope{partition: partition}
	var list []*api.Peering
	err := c.do(ctx, op, func(ctx context.Context) error {
		list = nil
		_, err := c.api.Raw().Query("/v1/peerings", &list, c.read(ctx, in))
		if withoutPeering(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var peers []mesh.DocumentPeer
	for _, p := range list {
		if p.State != api.PeeringStateActive && p.State != api.PeeringStateFailing {
			continue
		}
		names, err := c.peerNames(ctx, in, p)
		if err != nil {
			return nil, err
		}
		if names.trustDomain == "" {
			c.log.Warn("peering left out: its trust domain is not known before it exports a service", "peer", p.Name)
			continue
		}
		var roots strings.Builder
		for _, root := range p.PeerCAPems {
			roots.WriteString(line(root))
		}
		_, dialled := splitServerName(p.PeerServerName)
		peers = append(peers, mesh.DocumentPeer{
			Name:        p.Name,
			TrustDomain: names.trustDomain,
			RemoteName:  names.remote,
			Datacenter:  cmp.Or(p.Remote.Datacenter, dialled),
			RootCertPEM: roots.String(),
		})
	}
	slices.SortFunc(peers, func(a, b mesh.DocumentPeer) int { return cmp.Compare(a.Name, b.Name) })
	return peers, nil
}

// withoutPeering: it is switched off, or the server is older than it (1.13).
func withoutPeering(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && (status.Code == http.StatusNotFound || strings.Contains(status.Body, noPeeringText))
}

// peerNames is what the exporter calls itself and us.
type peerNames struct{ trustDomain, remote string }

func (c *Client) peerNames(ctx context.Context, in scope, p *api.Peering) (peerNames, error) {
	c.mu.Lock()
	names, known := c.peers[p.ID]
	c.mu.Unlock()
	if known {
		return names, nil
	}
	if len(p.StreamStatus.ImportedServices) > 0 {
		names, err := c.exportedNames(ctx, in, p)
		if err != nil {
			return peerNames{}, err
		}
		if names != (peerNames{}) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.peers[p.ID] = names
			return names, nil
		}
	}
	trustDomain, _ := splitServerName(p.PeerServerName)
	return peerNames{trustDomain: cmp.Or(trustDomain, rootTrustDomain(p.PeerCAPems))}, nil
}

// exportedNames reads them off the first service that the peer exports to us. It is zero if the token may not see that service.
func (c *Client) exportedNames(ctx context.Context, in scope, p *api.Peering) (peerNames, error) {
	// With Enterprise a name is partition/namespace/name.
	parts := strings.Split(p.StreamStatus.ImportedServices[0], "/")
	name := parts[len(parts)-1]
	if len(parts) > 1 {
		in.namespace = parts[len(parts)-2]
	}
	var instances []struct {
		Service struct {
			Connect struct{ PeerMeta struct{ SNI []string } }
		}
	}
	op := operation{
		name: "reading service", on: name + " of peer " + p.Name,
		rule: serviceRule(name, "read") + ` and node_prefix "" { policy = "read" }`,
	}
	err := c.do(ctx, op, func(ctx context.Context) error {
		instances = nil
		q := c.read(ctx, in)
		q.Peer = p.Name
		_, err := c.api.Raw().Query("/v1/health/connect/"+name, &instances, q)
		return err
	})
	switch {
	case errors.Is(err, registrator.ErrDenied):
		c.log.Warn("the names of a peer cannot be read", "peer", p.Name, "error", err)
		return peerNames{}, nil
	case err != nil:
		return peerNames{}, err
	}
	for _, i := range instances {
		for _, text := range i.Service.Connect.PeerMeta.SNI {
			if sni, err := mesh.ParseSNI(text); err == nil && sni.Peer() != "" {
				return peerNames{sni.TrustDomain(), sni.Peer()}, nil
			}
		}
	}
	return peerNames{}, nil
}

// splitServerName takes "server.DATACENTER.peering.TRUST-DOMAIN" apart (PeeringServerSAN in agent/connect/uri_server.go).
func splitServerName(name string) (trustDomain, datacenter string) {
	rest, ok := strings.CutPrefix(name, "server.")
	datacenter, trustDomain, found := strings.Cut(rest, ".peering.")
	if !ok || !found {
		return "", ""
	}
	return trustDomain, datacenter
}

// rootTrustDomain is the trust domain that the first root with a SPIFFE ID is of.
func rootTrustDomain(roots []string) string {
	for _, root := range roots {
		block, _ := pem.Decode([]byte(root))
		if block == nil {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		for _, uri := range cert.URIs {
			if uri.Scheme == "spiffe" && uri.Host != "" {
				return uri.Host
			}
		}
	}
	return ""
}
