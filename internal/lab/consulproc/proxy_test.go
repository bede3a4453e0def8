// SPDX-License-Identifier: MPL-2.0

package consulproc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// Each destination has its intention before its first connection: Consul's agent may keep an older answer.
func TestAProxyCarriesWhatIntentionsAllow(t *testing.T) {
	t.Parallel()
	server := start(t, consulproc.Config{ACL: true})
	c := client(t, server, server.Token())
	_, _, err := c.ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{
		Kind: api.ServiceIntentions, Name: "open", Sources: []*api.SourceIntention{{Name: "web", Action: api.IntentionActionAllow}},
	}, nil)
	ok(t, err)
	local := echo(t)
	open, err := server.ConnectProxy(t.Context(), consulproc.ProxyConfig{Service: "open", LocalAddr: local})
	ok(t, err)
	shut, err := server.ConnectProxy(t.Context(), consulproc.ProxyConfig{
		Service: "shut", LocalAddr: local, Token: token(t, server, "shut", `service "shut" { policy = "write" }`),
	})
	ok(t, err)
	web := identity(t, c, "web")

	waittest.NoError(t, func(ctx context.Context) error { return roundTrip(ctx, open.Addr(), web) })
	if err := roundTrip(t.Context(), shut.Addr(), web); err == nil {
		t.Error("bytes came back without an intention")
	}
	// The proxy outlives its agent.
	ok(t, server.Restart(t.Context()))
	waittest.NoError(t, func(ctx context.Context) error { return roundTrip(ctx, open.Addr(), web) })

	ok(t, open.Close())
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp4", open.Addr()); err == nil {
		conn.Close()
		t.Error("a closed proxy accepts connections")
	}
}

// identity returns what a member of the mesh shows, and trusts.
func identity(t testing.TB, c *api.Client, service string) *tls.Config {
	t.Helper()
	leaf, _, err := c.Agent().ConnectCALeaf(service, nil)
	ok(t, err)
	pair, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM))
	ok(t, err)
	list, _, err := c.Agent().ConnectCARoots(nil)
	ok(t, err)
	pool := x509.NewCertPool()
	for _, root := range list.Roots {
		pool.AppendCertsFromPEM([]byte(root.RootCertPEM))
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		// A service's leaf has no DNS name: its chain is checked below.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
			return err
		},
	}
}

// roundTrip sends a word and wants it back.
func roundTrip(ctx context.Context, addr string, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp4", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	answer := make([]byte, 5)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != "hello" {
		return errors.New("another answer: " + string(answer))
	}
	return nil
}

// echo listens for the life of the test and sends back what it gets.
func echo(t testing.TB) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	ok(t, err)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // until the proxy closes, however it does
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		work.Wait()
	})
	return l.Addr().String()
}
