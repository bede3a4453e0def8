// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
)

func TestRoutesPreferTheExactNameThenTheLongestWildcard(t *testing.T) {
	t.Parallel()
	var r Routes
	r.Set("*.dc2.internal.td", "remote")
	r.Set("*.internal.td", "any")
	r.Set("Web.default.dc2.internal.td", "exact")
	for name, want := range map[string]string{
		"web.default.dc2.internal.td": "exact",
		"WEB.default.dc2.internal.TD": "exact",
		"api.default.dc2.internal.td": "remote",
		"api.default.dc3.internal.td": "any",
		"dc2.internal.td":             "any",
		"internal.td":                 "",
		"":                            "",
	} {
		if got, _ := r.Lookup(name); got != want {
			t.Errorf("%q leads to %q, want %q", name, got, want)
		}
	}
	r.Set("web.default.dc2.internal.td", "")
	if got, _ := r.Lookup("web.default.dc2.internal.td"); got != "remote" {
		t.Errorf("removed route leads to %q", got)
	}
}

func TestGatewayRoutesByServerName(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	for _, name := range []string{"one", "two"} {
		addService(t, m, name, Banner(name))
	}
	second, err := m.AddGateway()
	ok(t, err)
	for _, name := range []string{"one", "two"} {
		for _, addr := range []string{m.Gateway.Addr(), second.Addr()} {
			c, err := dialTLS(t, addr, clientConfig(t, m.CA, name, issue(t, m.CA, "caller", LeafOptions{})))
			ok(t, err)
			got := make([]byte, len(name))
			_, err = io.ReadFull(c, got)
			ok(t, err)
			if string(got) != name {
				t.Errorf("%s answered as %q", name, got)
			}
		}
	}
}

func TestGatewayClosesWhatItCannotRoute(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	m.Routes.Set("gone.example", "127.0.0.1:1")
	closed := func(what string, send []byte) {
		t.Helper()
		c := dialRaw(t, m.Gateway.Addr())
		_, err := c.Write(send)
		ok(t, err)
		if b, err := io.ReadAll(c); len(b) != 0 || err != nil {
			t.Errorf("%s: read %d bytes, %v; want a clean end", what, len(b), err)
		}
	}
	closed("unknown name", helloFor(&tls.Config{ServerName: "nowhere.example"}))
	closed("no name", helloFor(&tls.Config{ServerName: "127.0.0.1"}))
	closed("not TLS", []byte("GET / HTTP/1.0\r\n\r\n"))
	closed("nobody listens", helloFor(&tls.Config{ServerName: "gone.example"}))
	st := m.Gateway.Stats()
	if st.Accepted != 4 || st.NoRoute != 2 || st.BadHello != 1 || st.DialFailed != 1 || st.Routed != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestGatewayWaitsForAHelloInPieces(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	addService(t, m, "web", nil)
	piecemeal := &bytewise{Conn: dialRaw(t, m.Gateway.Addr())}
	c, err := handshake(t, piecemeal, clientConfig(t, m.CA, "web", issue(t, m.CA, "caller", LeafOptions{})))
	ok(t, err)
	roundTrip(t, c, "in pieces")
}

// bytewise writes each byte by itself.
type bytewise struct{ net.Conn }

func (c *bytewise) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// D4 of the facts: a gateway leads to the gateway of another datacenter.
func TestGatewaysChainToAnotherDatacenter(t *testing.T) {
	t.Parallel()
	near := newMesh(t, Config{CA: CAConfig{Datacenter: "near"}})
	far := newMesh(t, Config{CA: CAConfig{Datacenter: "far"}})
	addService(t, far, "web", nil)
	near.Routes.Set("*.far.internal."+far.CA.TrustDomain(), far.Gateway.Addr())
	c, err := dialTLS(t, near.Gateway.Addr(), clientConfig(t, far.CA, "web", issue(t, far.CA, "caller", LeafOptions{})))
	ok(t, err)
	roundTrip(t, c, "far away")
}

// R6: both orders, in each plan that changes how bytes are carried.
func TestGatewayCarriesHalfCloseBothWays(t *testing.T) {
	t.Parallel()
	for name, plan := range map[string]FaultPlan{"spliced": {}, "in user space": {Drip: true}, "delayed": {Delay: 1}} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, Config{})
			m.Gateway.SetFaults(plan)
			serverDone := make(chan Received, 1)
			addService(t, m, "client-first", Digest)
			addService(t, m, "server-first", func(c Conn) {
				_ = c.CloseWrite()
				Sink(func(r Received) { serverDone <- r })(c)
			})
			c := connect(t, m, "client-first")
			_, err := io.WriteString(c, "question")
			ok(t, err)
			ok(t, c.CloseWrite())
			answer, err := io.ReadAll(c)
			ok(t, err)
			if len(answer) != 64 {
				t.Errorf("answer after our end: %q", answer)
			}
			_ = c.Close()

			c = connect(t, m, "server-first")
			_, err = io.ReadAll(c)
			ok(t, err)
			_, err = io.WriteString(c, "still here")
			ok(t, err)
			ok(t, c.CloseWrite())
			if r := <-serverDone; r.Err != nil || r.Bytes != int64(len("still here")) {
				t.Errorf("after its end the server received %d bytes, %v", r.Bytes, r.Err)
			}
			_ = c.Close()
			waittest.Until(t, "connections are gone", func() bool { return m.Gateway.Stats().Open == 0 })
		})
	}
}

func TestGatewayPassesAResetOn(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	done := make(chan Received, 1)
	s := addService(t, m, "web", Sink(func(r Received) { done <- r }))
	c := connect(t, m, "web")
	_, err := io.WriteString(c, "x")
	ok(t, err)
	waittest.Until(t, "the client is served", func() bool { return s.Stats().Handshakes == 1 })
	reset(c.NetConn().(*net.TCPConn))
	if r := <-done; !isReset(r.Err) {
		t.Errorf("sidecar read %v, want a reset", r.Err)
	}
	c = connect(t, m, "web")
	waittest.Until(t, "the client is served", func() bool { return s.Stats().Handshakes == 2 })
	s.Drop(EndRST)
	if _, err := io.ReadAll(c); !isReset(err) {
		t.Errorf("client read %v, want a reset", err)
	}
	<-done
}

// D4 of the facts: passed through for tcp, terminated for http.
func TestPeeredServiceShowsItselfOrItsGateway(t *testing.T) {
	t.Parallel()
	exporter := newMesh(t, Config{CA: CAConfig{TrustDomain: "exporter.consul"}})
	importer := newMesh(t, Config{CA: CAConfig{TrustDomain: "importer.consul"}})
	tcp := Export{Service: service(t, "tcp"), PeerName: "us", Importer: importer.CA}
	web := Export{Service: service(t, "web"), PeerName: "us", Importer: importer.CA}
	ok(t, exporter.ExportTCP(tcp, addService(t, exporter, "tcp", nil)))
	end, err := exporter.ExportHTTP(web, HTTP(http.NotFoundHandler()))
	ok(t, err)
	gateway, err := exporter.CA.GatewayID()
	ok(t, err)
	for _, tt := range []struct {
		export Export
		shown  mesh.ID
		send   string
		want   string
	}{
		{tcp, serviceID(t, exporter.CA, "tcp"), "through", "through"},
		{web, gateway, "GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 404"},
	} {
		sni, err := exporter.SNI(tt.export)
		ok(t, err)
		importer.Routes.Set(sni.String(), exporter.Gateway.Addr())
		cfg := &tls.Config{
			ServerName:         sni.String(),
			Certificates:       []tls.Certificate{issue(t, importer.CA, "caller", LeafOptions{}).Certificate},
			InsecureSkipVerify: true, // see VerifyConnection
			VerifyConnection:   verifyServer(exporter.CA.RootsPool(), tt.shown),
		}
		c, err := dialTLS(t, importer.Gateway.Addr(), cfg)
		ok(t, err)
		_, err = io.WriteString(c, tt.send)
		ok(t, err)
		got := make([]byte, len(tt.want))
		_, err = io.ReadFull(c, got)
		ok(t, err)
		if string(got) != tt.want {
			t.Errorf("%s answered %q", sni, got)
		}
	}
	if n := end.Stats().Handshakes; n != 1 {
		t.Errorf("gateway ended TLS %d times, want 1", n)
	}
}

func TestMeshRotationGoesUnnoticedByWhoTrustsAllRoots(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{CA: CAConfig{Intermediate: true, NoCrossSign: true}})
	s := addService(t, m, "web", nil)
	for range 3 {
		before := s.Leaf().Serial()
		ok(t, m.Rotate())
		if s.Leaf().Serial() == before {
			t.Error("sidecar shows the old leaf")
		}
		roundTrip(t, connect(t, m, "web"), "rotated")
		m.CA.Prune()
		roundTrip(t, connect(t, m, "web"), "pruned")
	}
}

func TestMeshDocumentIsWhatAFunctionNeeds(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	s := addService(t, m, "web", nil)
	doc, err := m.Document("fn")
	ok(t, err)
	pair, err := tls.X509KeyPair([]byte(doc.CertPEM), []byte(doc.PrivateKeyPEM))
	ok(t, err)
	if !strings.HasSuffix(pair.Leaf.URIs[0].Path, "/svc/fn") {
		t.Errorf("issued for %v", pair.Leaf.URIs[0])
	}
	cfg := clientConfig(t, m.CA, "web", &Leaf{Certificate: pair})
	c, err := dialTLS(t, m.Gateway.Addr(), cfg)
	ok(t, err)
	roundTrip(t, c, "hello")
	if s.Stats().Clients[serialOf(pair.Leaf)] != 1 {
		t.Errorf("clients %v", s.Stats().Clients)
	}
}

// R7 for the lab itself: moving a stream between splice, user space and the
// delay line loses nothing and doubles nothing.
func TestBytesSurviveEveryChangeOfPlan(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	m := newMesh(t, Config{})
	addService(t, m, "web", nil)
	c := connect(t, m, "web")
	sent := make(chan error, 1)
	go sendPattern(c, size, sent)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go keepReplanning(m.Gateway, stop, stopped)
	err := samePattern(c, size)
	close(stop)
	<-stopped
	ok(t, err)
	ok(t, <-sent)
}

func sendPattern(c *tls.Conn, n int64, done chan<- error) {
	_, err := io.Copy(c, Pattern(n))
	if err == nil {
		err = c.CloseWrite()
	}
	done <- err
}

// keepReplanning changes the plan of open connections until told to stop.
func keepReplanning(g *Gateway, stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	plans := []FaultPlan{
		{},
		{Delay: 1000},
		{Down: ByteFault{Kind: StallBytes, After: 100_000}},
		{Idle: patience},
		{Delay: 3_000_000},
		{Up: ByteFault{Kind: StallBytes}},
	}
	for i := 0; ; i++ {
		select {
		case <-stop:
			g.SetFaultsOpen(FaultPlan{})
			return
		default:
			g.SetFaultsOpen(plans[i%len(plans)])
		}
	}
}

// samePattern compares r with the pattern of n bytes, to the end.
func samePattern(r io.Reader, n int64) error {
	want := Pattern(n)
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		k, err := io.ReadFull(r, a)
		_, _ = io.ReadFull(want, b[:k])
		if !bytes.Equal(a[:k], b[:k]) {
			return fmt.Errorf("bytes differ after %d", at)
		}
		at += int64(k)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if at != n {
				return io.ErrUnexpectedEOF
			}
			return nil
		case err != nil:
			return err
		}
	}
}
