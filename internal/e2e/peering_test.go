// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// Two clusters with roots of their own, which know each other by names of their own choice: `here` calls the other one `partner`,
// and is `customer` to it. The function's document has all that it needs to call a service of the partner's, read from a real Consul;
// it accepts the service's own identity, or its gateway's where that ends TLS, and nobody else's (R1). The certificate of the gateway
// is what Consul gives a real one.
func TestAFunctionReachesAPeer(t *testing.T) {
	t.Parallel()
	here := newWorld(t, consulproc.Config{Extra: grpcTLS(t)})
	partner := newAccount(t, startConsul(t, consulproc.Config{ACL: true, Datacenter: "west", Extra: grpcTLS(t)}), "210987654321")
	peer(t, here, partner)

	// What the partner exports: one service for TCP, one for HTTP, behind its mesh gateway.
	agent := partner.admin.Agent()
	host, port, err := net.SplitHostPort(partner.gateway.Addr())
	ok(t, err)
	number, err := strconv.Atoi(port)
	ok(t, err)
	ok(t, agent.ServiceRegister(&api.AgentServiceRegistration{
		Kind: api.ServiceKindMeshGateway, Name: "mesh-gateway", Address: host, Port: number,
	}))
	exported := []api.ExportedService{}
	for name, protocol := range map[string]string{"ledger": "tcp", "shop": "http"} {
		_, _, err := partner.admin.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: name, Protocol: protocol}, nil)
		ok(t, err)
		ok(t, agent.ServiceRegister(&api.AgentServiceRegistration{Name: name, Port: 1, Connect: &api.AgentServiceConnect{
			SidecarService: &api.AgentServiceRegistration{Port: 2},
		}}))
		exported = append(exported, api.ExportedService{Name: name, Consumers: []api.ServiceConsumer{{Peer: "customer"}}})
	}
	_, _, err = partner.admin.ConfigEntries().Set(&api.ExportedServicesConfigEntry{Name: "default", Services: exported}, nil)
	ok(t, err)
	waittest.NoError(t, func(ctx context.Context) error {
		p, _, err := here.admin.Peerings().Read(ctx, "partner", nil)
		if err != nil || len(p.StreamStatus.ImportedServices) != 2 {
			return errors.Join(err, fmt.Errorf("imported %v", p.StreamStatus.ImportedServices))
		}
		return nil
	})

	here.aws.AddFunction("checkout", enabled())
	r := here.registrator(t, nil)
	var doc mesh.Document
	waittest.NoError(t, func(context.Context) error { // the services come a moment after their names
		r.run(t)
		doc = here.document(t, "checkout")
		if p, there := doc.Peer("partner"); !there || p.RemoteName == "" {
			return fmt.Errorf("the document's peer is known as %q to the partner", p.RemoteName)
		}
		return nil
	})
	p, _ := doc.Peer("partner")
	roots, _, err := partner.admin.Connect().CARoots(nil)
	ok(t, err)
	if p.TrustDomain != partner.trust || p.RemoteName != "customer" || p.Datacenter != "west" ||
		strings.TrimSpace(p.RootCertPEM) != strings.TrimSpace(roots.Roots[0].RootCertPEM) {
		t.Errorf("the document says that the partner is %s, %s, in %s", p.TrustDomain, p.RemoteName, p.Datacenter)
	}

	clients := trusted(t, here.admin)
	destination := func(name string, pair tls.Certificate) {
		s, err := mesh.NewService(name, "", "")
		ok(t, err)
		sni, err := mesh.PeeredSNI(s, "customer", partner.trust)
		ok(t, err)
		here.gateway.Route(sni.String(), echo(t, sidecar(pair, clients)))
	}
	destination("ledger", leaf(t, partner.admin, "ledger"))
	destination("shop", partner.gatewayLeaf(t, "shop"))
	destination("mallory", leaf(t, partner.admin, "ledger")) // a gateway that leads astray
	destination("eve", leaf(t, here.admin, "eve"))           // somebody of our own mesh, as a service of the partner's
	f := here.function(t, "checkout", "ledger.svc.partner.peer:7001,shop.svc.partner.peer:7002,mallory.svc.partner.peer:7003,eve.svc.partner.peer:7004", nil)
	for _, port := range []int{7001, 7002} {
		waittest.NoError(t, func(ctx context.Context) error { return f.say(ctx, port, "over to you") })
	}
	for _, port := range []int{7003, 7004} {
		if err := f.say(t.Context(), port, "who are you?"); err == nil {
			t.Errorf("at port %d another identity was taken for the upstream's", port)
		}
	}
}

// grpcTLS opens the port that peers connect to. It lies below the range of which the kernel takes ports for outgoing connections, so
// nobody who is not asked takes it before Consul does.
func grpcTLS(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		ok(t, l.Close())
		return fmt.Sprintf("ports { grpc_tls = %d }", port)
	}
	t.Fatal("no port is free")
	return ""
}

// peer makes the two clusters peers.
func peer(t testing.TB, here, partner *world) {
	t.Helper()
	made, _, err := partner.admin.Peerings().GenerateToken(t.Context(), api.PeeringGenerateTokenRequest{PeerName: "customer"}, nil)
	ok(t, err)
	_, _, err = here.admin.Peerings().Establish(t.Context(), api.PeeringEstablishRequest{PeerName: "partner", PeeringToken: made.PeeringToken}, nil)
	ok(t, err)
	waittest.NoError(t, func(ctx context.Context) error {
		for c, name := range map[*api.Client]string{here.admin: "partner", partner.admin: "customer"} {
			p, _, err := c.Peerings().Read(ctx, name, nil)
			if err != nil || p.State != api.PeeringStateActive {
				return fmt.Errorf("the peering %s is %+v: %w", name, p, err)
			}
		}
		return nil
	})
}

// gatewayLeaf is the certificate that Consul gives to a mesh gateway for a service it ends TLS for.
func (w *world) gatewayLeaf(t testing.TB, service string) tls.Certificate {
	t.Helper()
	config := w.xds(t, "mesh-gateway", service+`\.default\.default\.customer\.external`)
	for _, l := range config.Listeners {
		for _, c := range find(t, l, "@type", "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext") {
			text, err := json.Marshal(c)
			ok(t, err)
			var tlsContext struct {
				CommonTLSContext struct {
					TLSCertificates []struct{ CertificateChain, PrivateKey struct{ InlineString string } }
				}
			}
			ok(t, json.Unmarshal(text, &tlsContext))
			for _, pair := range tlsContext.CommonTLSContext.TLSCertificates {
				cert, err := tls.X509KeyPair([]byte(pair.CertificateChain.InlineString), []byte(pair.PrivateKey.InlineString))
				ok(t, err)
				if id := cert.Leaf.URIs[0].String(); id != "spiffe://"+w.trust+"/gateway/mesh/dc/west" {
					t.Errorf("the gateway's leaf names %s", id)
				}
				return cert
			}
		}
	}
	t.Fatalf("the gateway ends TLS for nothing")
	return tls.Certificate{}
}
