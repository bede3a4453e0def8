// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// id builds the identity of a service; where is "namespace partition datacenter trust-domain", of which later ones may
// be left out.
func id(t testing.TB, ca certtest.CA, name string, where ...string) mesh.ID {
	t.Helper()
	full := []string{"", "", ca.Datacenter(), ca.TrustDomain()}
	copy(full, where)
	s, err := mesh.NewService(name, full[0], full[1])
	if err != nil {
		t.Fatal(err)
	}
	id, err := mesh.ServiceID(s, full[2], full[3])
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func gatewayID(t testing.TB, partition, datacenter, trustDomain string) mesh.ID {
	t.Helper()
	id, err := mesh.GatewayID(partition, datacenter, trustDomain)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The two kinds of refusal: the identity is wrong, or the chain is.
func isIdentity(err error) bool { return errors.Is(err, tlsstate.ErrIdentity) }

func isUnknownAuthority(err error) bool {
	_, ok := errors.AsType[x509.UnknownAuthorityError](err)
	return ok && !isIdentity(err)
}

func isInvalid(reason x509.InvalidReason) func(error) bool {
	return func(err error) bool {
		invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
		return ok && invalid.Reason == reason
	}
}

// R1: a certificate of the mesh is not enough, it has to be the upstream's own. The predecessor took any.
func TestOnlyTheUpstreamsOwnCertificateIsAccepted(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	web := id(t, ca, "web")
	td := ca.TrustDomain()
	var accepted func(error) bool
	for name, tc := range map[string]struct {
		leaf *meshsim.Leaf
		want func(error) bool
	}{
		"the upstream":                        {ca.Leaf(t, web), accepted},
		"path in another case":                {ca.Leaf(t, id(t, ca, "WEB", "Default", "", "DC1")), accepted},
		"another service":                     {ca.Leaf(t, id(t, ca, "db")), isIdentity},
		"a longer name":                       {ca.BadLeaf(t, web, meshsim.OtherIdentity), isIdentity},
		"another namespace":                   {ca.Leaf(t, id(t, ca, "web", "other")), isIdentity},
		"another partition":                   {ca.Leaf(t, id(t, ca, "web", "", "other")), isIdentity},
		"another datacenter":                  {ca.Leaf(t, id(t, ca, "web", "", "", "dc2")), isIdentity},
		"another trust domain":                {ca.Leaf(t, id(t, ca, "web", "", "", "dc1", "other.consul")), isIdentity},
		"a trust domain that begins the same": {ca.Leaf(t, id(t, ca, "web", "", "", "dc1", td+".evil")), isIdentity},
		"the trust domain in another case":    {ca.Leaf(t, id(t, ca, "web", "", "", "dc1", strings.ToUpper(td))), isIdentity},
		"a gateway":                           {ca.Leaf(t, gatewayID(t, "", "dc1", td)), isIdentity},
		"two identities":                      {ca.BadLeaf(t, web, meshsim.TwoURIs), isIdentity},
		"no identity":                         {ca.BadLeaf(t, web, meshsim.NoURI), isIdentity},
		"expired":                             {ca.BadLeaf(t, web, meshsim.Expired), isInvalid(x509.Expired)},
		"not yet valid":                       {ca.BadLeaf(t, web, meshsim.NotYetValid), isInvalid(x509.Expired)},
		"foreign root of the same name":       {ca.BadLeaf(t, web, meshsim.ForeignCA), isUnknownAuthority},
		"not for servers":                     {ca.BadLeaf(t, web, meshsim.WrongUsage), isInvalid(x509.IncompatibleUsage)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{
				Gateways: []string{destination(t, serverConfig(tc.leaf))},
			})
			for range 2 { // what the first connection may have left behind does not open the door to a second
				if tc.want == nil {
					w.dial(t, 0)
				} else if err := w.refused(t, 0); !tc.want(err) {
					t.Errorf("refused with %v", err)
				}
			}
		})
	}
}

// R1: an intermediate that the peer sends completes the chain, and its absence does not.
func TestChainMayHaveAnIntermediate(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t, meshsim.CAConfig{Intermediate: true})
	leaf := ca.Leaf(t, id(t, ca, "web"))
	alone := *leaf
	alone.Certificate.Certificate = leaf.Certificate.Certificate[:1]
	doc := ca.Doc(t, certtest.Service(t, "fn"))

	w := start(t, storeOf(t, doc), tlsstate.Config{Gateways: []string{destination(t, serverConfig(leaf))}})
	w.dial(t, 0)
	w = start(t, storeOf(t, doc), tlsstate.Config{Gateways: []string{destination(t, serverConfig(&alone))}})
	if err := w.refused(t, 0); !isUnknownAuthority(err) {
		t.Errorf("without its intermediate: %v", err)
	}
}

// R1: across a peering the service itself or the exporter's gateway answers, and only the peer's roots vouch for them.
func TestPeeredUpstreamIsVerifiedUnderThePeersRoots(t *testing.T) {
	t.Parallel()
	own := certtest.NewCA(t)
	peer := certtest.NewCA(t, meshsim.CAConfig{TrustDomain: "peer.consul", Datacenter: "dc9"})
	doc := own.Doc(t, certtest.Service(t, "fn"))
	doc.Peers = []mesh.DocumentPeer{peer.Peer("east", "we-there")}
	const peered, local = 0, 1

	theirWeb := id(t, peer, "web")
	for name, tc := range map[string]struct {
		upstream int
		leaf     *meshsim.Leaf
		want     func(error) bool
	}{
		"the service":                               {peered, peer.Leaf(t, theirWeb), nil},
		"the exporter's gateway":                    {peered, peer.Leaf(t, gatewayID(t, "", "dc9", "peer.consul")), nil},
		"their other service":                       {peered, peer.Leaf(t, id(t, peer, "db")), isIdentity},
		"their gateway elsewhere":                   {peered, peer.Leaf(t, gatewayID(t, "", "dc8", "peer.consul")), isIdentity},
		"their gateway of another partition":        {peered, peer.Leaf(t, gatewayID(t, "p", "dc9", "peer.consul")), isIdentity},
		"our service of that name, our root":        {peered, own.Leaf(t, id(t, own, "web")), isUnknownAuthority},
		"our service of that name, their root":      {peered, peer.Leaf(t, id(t, own, "web")), isIdentity},
		"our gateway, their root":                   {peered, peer.Leaf(t, gatewayID(t, "", "dc1", own.TrustDomain())), isIdentity},
		"the service, but our root":                 {peered, own.Leaf(t, theirWeb), isUnknownAuthority},
		"their gateway, but our root":               {peered, own.Leaf(t, gatewayID(t, "", "dc9", "peer.consul")), isUnknownAuthority},
		"expired":                                   {peered, peer.BadLeaf(t, theirWeb, meshsim.Expired), isInvalid(x509.Expired)},
		"local upstream":                            {local, own.Leaf(t, id(t, own, "web")), nil},
		"local upstream, but their root":            {local, peer.Leaf(t, id(t, own, "web")), isUnknownAuthority},
		"local upstream, but their service":         {local, peer.Leaf(t, theirWeb), isUnknownAuthority},
		"local upstream, our gateway instead of it": {local, own.Leaf(t, gatewayID(t, "", "dc1", own.TrustDomain())), isIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, storeOf(t, doc), tlsstate.Config{
				Upstreams: upstreams(t, "web.svc.east.peer:8080,web:8081"),
				Gateways:  []string{destination(t, serverConfig(tc.leaf))},
			})
			if tc.want == nil {
				w.dial(t, tc.upstream)
			} else if err := w.refused(t, tc.upstream); !tc.want(err) {
				t.Errorf("refused with %v", err)
			}
		})
	}
}

// sniRecorder is a destination that tells what clients asked for.
func sniRecorder(t testing.TB, leaf *meshsim.Leaf) (addr string, names <-chan *tls.ClientHelloInfo) {
	t.Helper()
	hellos := make(chan *tls.ClientHelloInfo, 10)
	cfg := serverConfig(leaf)
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		hellos <- hello
		return nil, nil
	}
	return destination(t, cfg), hellos
}

// Section 3.3 of the design: the datacenter of an upstream that names none is our leaf's, never a constant. The
// predecessor said "dc1" to everybody.
func TestServerNameAndIdentityFollowTheUpstream(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t, meshsim.CAConfig{Datacenter: "dc7"})
	td := ca.TrustDomain()
	peer := certtest.NewCA(t, meshsim.CAConfig{TrustDomain: "peer.consul", Datacenter: "dc9"})
	doc := ca.Doc(t, certtest.Service(t, "fn"))
	doc.Peers = []mesh.DocumentPeer{peer.Peer("east", "we-there")}
	for entry, tc := range map[string]struct {
		leaf *meshsim.Leaf
		sni  string
	}{
		"web:8080":               {ca.Leaf(t, id(t, ca, "web", "", "", "dc7")), "web.default.dc7.internal." + td},
		"web:8080:dc2":           {ca.Leaf(t, id(t, ca, "web", "", "", "dc2")), "web.default.dc2.internal." + td},
		"web.ns1.ap1:8080":       {ca.Leaf(t, id(t, ca, "web", "ns1", "ap1", "dc7")), "web.ns1.ap1.dc7.internal-v1." + td},
		"web.svc.east.peer:8080": {peer.Leaf(t, id(t, peer, "web")), "web.default.default.we-there.external.peer.consul"},
	} {
		t.Run(entry, func(t *testing.T) {
			t.Parallel()
			addr, hellos := sniRecorder(t, tc.leaf)
			w := start(t, storeOf(t, doc), tlsstate.Config{Upstreams: upstreams(t, entry), Gateways: []string{addr}})
			w.dial(t, 0)
			if got := (<-hellos).ServerName; got != tc.sni {
				t.Errorf("asked for %q, want %q", got, tc.sni)
			}
		})
	}
}

// R1: our certificate is presented even to a server whose list of authorities leaves our root out, as it may in a
// rotation.
func TestClientCertificateIsSentWhateverAuthoritiesTheServerNames(t *testing.T) {
	t.Parallel()
	ca, other := certtest.NewCA(t), certtest.NewCA(t, meshsim.CAConfig{TrustDomain: "other.consul"})
	doc := ca.Doc(t, certtest.Service(t, "fn"))
	cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
	cfg.ClientCAs = other.RootsPool()
	clients := make(chan string, 1)
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		clients <- cs.PeerCertificates[0].URIs[0].String()
		return nil
	}
	w := start(t, storeOf(t, doc), tlsstate.Config{Gateways: []string{destination(t, cfg)}})
	w.dial(t, 0)
	if got, want := <-clients, id(t, ca, "fn").String(); got != want {
		t.Errorf("the server saw %s, want %s", got, want)
	}
}

// forBothVersions runs a test with servers that speak one version of TLS only.
func forBothVersions(t *testing.T, test func(t *testing.T, version uint16)) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(v), func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

// R1: on a resumed connection crypto/tls skips VerifyPeerCertificate, and the server proves nothing but that it knows
// the ticket's key, which instances share.
func TestIdentityIsCheckedOnResumedConnectionsToo(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		ca := certtest.NewCA(t)
		cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
		cfg.MinVersion, cfg.MaxVersion = version, version
		resumed := make(chan bool, 10)
		cfg.VerifyConnection = func(cs tls.ConnectionState) error { resumed <- cs.DidResume; return nil }
		w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{
			Upstreams: upstreams(t, "web:8080,db:8081"),
			Gateways:  []string{destination(t, cfg)},
		})
		w.ready(t)
		w.ShareSession(0, 1)
		w.dial(t, 0)
		if !w.dial(t, 0).Resumed() {
			t.Fatal("the second connection was not resumed")
		}
		<-resumed
		<-resumed
		if err := w.refused(t, 1); !isIdentity(err) {
			t.Errorf("a session of web under the name of db: %v", err)
		}
		if version == tls.VersionTLS12 { // in 1.3 the server never gets that far: the client ends first
			if !<-resumed {
				t.Error("the connection that was refused was not a resumed one")
			}
		}
	})
}

// R1: a chain that was good once is compared with the clock each time, whether it comes from a session or is shown anew.
func TestRememberedChainDoesNotOutliveItsCertificates(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		for name, noResumption := range map[string]bool{"resumed": false, "full handshake": true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ca := certtest.NewCA(t)
				leaf, err := ca.Issue(id(t, ca, "web"), meshsim.LeafOptions{NotAfter: time.Now().Add(time.Hour)})
				if err != nil {
					t.Fatal(err)
				}
				cfg := serverConfig(leaf)
				cfg.MinVersion, cfg.MaxVersion = version, version
				w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{
					Gateways:     []string{destination(t, cfg)},
					NoResumption: noResumption,
				})
				w.dial(t, 0)
				if got := w.dial(t, 0).Resumed(); got == noResumption {
					t.Fatalf("resumed is %v", got)
				}
				w.skew.JumpWall(59 * time.Minute)
				w.dial(t, 0)
				w.skew.JumpWall(2 * time.Minute)
				if err := w.refused(t, 0); !isInvalid(x509.Expired)(err) {
					t.Errorf("a minute after the peer's leaf expired: %v", err)
				}
				w.skew.JumpWall(-63 * time.Minute) // two minutes before the start; leaves are backdated by one
				if err := w.refused(t, 0); !isInvalid(x509.Expired)(err) {
					t.Errorf("before the peer's leaf was valid: %v", err)
				}
			})
		}
	})
}

// R1: a chain that leads to a root says nothing about who it is; the memory of chains is shared by all upstreams.
func TestRememberedChainDoesNotVouchForAnotherUpstream(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{
		Upstreams: upstreams(t, "web:8080,db:8081"),
		Gateways:  []string{destination(t, serverConfig(ca.Leaf(t, id(t, ca, "web"))))},
	})
	w.dial(t, 0)
	if err := w.refused(t, 1); !isIdentity(err) {
		t.Errorf("web's certificate for db: %v", err)
	}
}

// R1: more instances behind an upstream than chains are remembered is slower, and nothing else.
func TestManyInstancesBehindOneUpstream(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
	var foreign atomic.Bool
	web := id(t, ca, "web")
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		opts := meshsim.LeafOptions{}
		if foreign.Load() {
			opts.Flaw = meshsim.ForeignCA
		}
		leaf, err := ca.Issue(web, opts)
		if err != nil {
			return nil, err
		}
		return &leaf.Certificate, nil
	}
	cfg.Certificates = nil
	addr := listen(t, "127.0.0.1:0", func(raw net.Conn) { _ = tls.Server(raw, cfg).Handshake() })
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{addr}, NoResumption: true})
	for i := range 140 {
		c, err := w.try(t, 0)
		if err != nil {
			t.Fatalf("instance %d: %v", i, err)
		}
		_ = c.Reset()
	}
	foreign.Store(true)
	if err := w.refused(t, 0); !isUnknownAuthority(err) {
		t.Errorf("a foreign instance after many good ones: %v", err)
	}
}
