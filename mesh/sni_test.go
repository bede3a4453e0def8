// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

func TestServerNameHasTheFormsThatAGatewayRoutes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ service, datacenter, peer, want string }{
		{"web", "dc1", "", "web.default.dc1.internal." + testTrustDomain},
		{"web.pay", "dc1", "", "web.pay.dc1.internal." + testTrustDomain},
		{"web.default.ap1", "dc1", "", "web.default.ap1.dc1.internal-v1." + testTrustDomain},
		{"web.pay.ap1", "dc2", "", "web.pay.ap1.dc2.internal-v1." + testTrustDomain},
		{"web", "", "west", "web.default.default.west.external." + testTrustDomain},
		{"web.pay.ap1", "", "west", "web.pay.ap1.west.external." + testTrustDomain},
		{"Web_1", "DC_1", "", "Web_1.default.DC_1.internal." + testTrustDomain},
		// Names that are spelled like the markers.
		{"internal.internal", "internal", "", "internal.internal.internal.internal." + testTrustDomain},
		{"a.b.c", "internal", "", "a.b.c.internal.internal-v1." + testTrustDomain},
		{"a.b.internal", "external", "", "a.b.internal.external.internal-v1." + testTrustDomain},
		{"a.b.c", "", "internal", "a.b.c.internal.external." + testTrustDomain},
		{"a.b", "internal-v1", "", "a.b.internal-v1.internal." + testTrustDomain},
	} {
		s := must(ParseService(c.service))
		var n SNI
		if c.peer != "" {
			n = must(PeeredSNI(s, c.peer, testTrustDomain))
		} else {
			n = must(ServiceSNI(s, c.datacenter, testTrustDomain))
		}
		if n.String() != c.want {
			t.Errorf("server name is %q, want %q", n, c.want)
		}
		if n.Service() != s || n.Datacenter() != c.datacenter || n.Peer() != c.peer || n.TrustDomain() != testTrustDomain {
			t.Errorf("%q has service %v, datacenter %q, peer %q, trust domain %q", n, n.Service(), n.Datacenter(), n.Peer(), n.TrustDomain())
		}
		if again := must(ParseSNI(c.want)); again != n {
			t.Errorf("%q is read as %#v, want %#v", c.want, again, n)
		}
		checkHostName(t, n.String())
	}
}

func TestServerNameRefusesPartsThatItCannotCarry(t *testing.T) {
	t.Parallel()
	web := must(ParseService("web"))
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		service                 Service
		datacenter, trustDomain string
		text                    string
	}{
		{Service{}, "dc1", testTrustDomain, "service"},
		{must(NewService(long, "", "")), "dc1", testTrustDomain, "name"},
		{must(NewService("web", long, "")), "dc1", testTrustDomain, "namespace"},
		{must(NewService("web", "", long)), "dc1", testTrustDomain, "partition"},
		{web, "", testTrustDomain, `""`},
		{web, "a.b", testTrustDomain, `"a.b"`},
		{web, long, testTrustDomain, "64 bytes"},
		{web, "dc1", "", `trust domain ""`},
		{web, "dc1", "td:443", `trust domain "td:443"`},
		{web, "dc1", ".td", `trust domain ".td"`},
		{web, "dc1", "td.", `trust domain "td."`},
		{web, "dc1", "a..b", `trust domain "a..b"`},
		{web, "dc1", "[::1]", `trust domain "[::1]"`},
		{web, "dc1", long, "trust domain"},
		{web, "dc1", "internal.consul", `"internal"`},
		{web, "dc1", "internal-v1.consul", `"internal-v1"`},
		{web, "dc1", "external", `"external"`},
	} {
		got, err := ServiceSNI(c.service, c.datacenter, c.trustDomain)
		checkRefused(t, got, err, ErrSNI, c.text)
		got, err = PeeredSNI(c.service, c.datacenter, c.trustDomain)
		checkRefused(t, got, err, ErrSNI, c.text)
	}
}

func TestServerNameHasAtMost253Bytes(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	s := must(NewService(label, label, ""))
	room := 253 - len(s.String()+".dc1.internal.")
	trustDomain := label + "." + strings.Repeat("b", room-64)
	if n := len(must(ServiceSNI(s, "dc1", trustDomain)).String()); n != 253 {
		t.Errorf("server name has %d bytes", n)
	}
	got, err := ServiceSNI(s, "dc1", trustDomain+"b")
	checkRefused(t, got, err, ErrSNI, "254 bytes", "253")
}

func TestServerNameIsReadOnlyInItsExactForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, text string }{
		{"", "internal-v1"},
		{"web", "internal-v1"},
		{"web.default.dc1.internal", "internal-v1"},
		{"web.default.dc1.internal.", `trust domain ""`},
		{"web.default.dc1.internal.td.", `trust domain "td."`},
		{"web.default.dc1.internal.td:443", `trust domain "td:443"`},
		{"web.default.ap1.dc1.internal-v1", `trust domain ""`},
		{"web.default.ap1.west.external", `trust domain ""`},
		{".default.dc1.internal.td", `name ""`},
		{"web..dc1.internal.td", `namespace ""`},
		{"web.default..internal.td", `datacenter ""`},
		{"web.default..dc1.internal-v1.td", `partition ""`},
		{"web.default.ap1..internal-v1.td", `datacenter ""`},
		{"web.default.ap1..external.td", `peer ""`},
		{"web.default.dc1.INTERNAL.td", "internal-v1"},
		{"dc1.internal.td", "internal-v1"},                                          // a gateway's own
		{"web.default.dc1.query.td", "internal-v1"},                                 // a prepared query
		{"v1.web.default.dc1.internal.td", "no subset"},                             // a subset
		{"v1.web.default.ap1.dc1.internal-v1.td", "no subset"},                      // a subset
		{"web.default.default.dc1.internal-v1.td", `"web.default.dc1.internal.td"`}, // not canonical
		{"web.default.dc1.internal.internal.td", `trust domain "internal.td"`},      // a marker
		{"w/b.default.dc1.internal.td", `name "w/b"`},
		{"web.default.dc1.internal." + strings.Repeat("a", 64), "trust domain"},
		{strings.Repeat("a", 64) + ".default.dc1.internal.td", "64 bytes"},
		{"web.default.dc1.internal." + strings.Repeat("abcdefg.", 28) + "consul", "255 bytes: want"},
	} {
		got, err := ParseSNI(c.in)
		checkRefused(t, got, err, ErrSNI, c.text)
	}
}

func TestServerNameZeroValuePrintsNothing(t *testing.T) {
	t.Parallel()
	if n := (SNI{}); n.String() != "" || !n.Service().IsZero() {
		t.Errorf("zero SNI prints %q", n)
	}
}

// crypto/tls sends no IP literal and cuts dots off the end; a server name is neither.
func TestServerNameGoesOverTheWireAsItIsPrinted(t *testing.T) {
	t.Parallel()
	for _, service := range []string{"web", "UPPER_under-score", "-", "_", "1.2", "10.0.1"} {
		for _, trustDomain := range []string{testTrustDomain, "td", "10.0.0.1"} {
			n := must(ServiceSNI(must(ParseService(service)), "0", trustDomain))
			if got := serverNameOnWire(t, n.String()); got != n.String() {
				t.Errorf("server name %q is %q on the wire", n, got)
			}
		}
	}
}

// serverNameOnWire returns what a TLS server reads of the name that a client sends.
func serverNameOnWire(t testing.TB, name string) string {
	t.Helper()
	var hello bytes.Buffer
	client := tls.Client(halfConn{r: strings.NewReader(""), w: &hello}, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := client.Handshake(); err == nil {
		t.Fatal("handshake without a server succeeded")
	}
	var got string
	errSeen := errors.New("seen")
	server := tls.Server(halfConn{r: &hello, w: io.Discard}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			got = h.ServerName
			return nil, errSeen
		},
	})
	if err := server.Handshake(); !errors.Is(err, errSeen) {
		t.Fatalf("server read no hello: %v", err)
	}
	return got
}

// halfConn is one side of a connection whose other side was recorded.
type halfConn struct {
	net.Conn // nil: a handshake without a context reads and writes only
	r        io.Reader
	w        io.Writer
}

func (c halfConn) Read(b []byte) (int, error)  { return c.r.Read(b) }
func (c halfConn) Write(b []byte) (int, error) { return c.w.Write(b) }

// What is accepted prints as it was read, is a legal host name and is what the
// constructors make of its parts.
func FuzzParseSNI(f *testing.F) {
	for _, s := range []string{
		"web.default.dc1.internal.td", "web.pay.ap1.dc1.internal-v1." + testTrustDomain, "web.pay.ap1.west.external.td",
		"a.b.c.internal.external.internal", "a.b.c.internal.internal-v1.internal-v1.td", "v1.web.default.dc1.internal.td",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		n, err := ParseSNI(in)
		if err != nil {
			checkRefused(t, n, err, ErrSNI)
			return
		}
		if n.String() != in {
			t.Errorf("%q prints %q", in, n)
		}
		checkHostName(t, n.String())
		var built SNI
		if n.Peer() != "" {
			built, err = PeeredSNI(n.Service(), n.Peer(), n.TrustDomain())
		} else {
			built, err = ServiceSNI(n.Service(), n.Datacenter(), n.TrustDomain())
		}
		if err != nil || built != n {
			t.Errorf("%q is built again as %v, %v", in, built, err)
		}
	})
}
