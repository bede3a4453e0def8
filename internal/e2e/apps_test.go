// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"
)

// web answers every request with its name, for the life of the test.
func web(t testing.TB, name string) (addr string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, name) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// echo sends back what it gets. config is nil for plain TCP.
func echo(t testing.TB, config *tls.Config) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	ok(t, err)
	var work sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if config != nil {
				conn = tls.Server(conn, config)
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			work.Go(func() {
				_, _ = io.Copy(conn, conn) // until either side closes, however it does
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
				conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return l.Addr().String()
}

// sidecar is the TLS of a destination that needs no Consul once it is made: pair is what it shows, clients who it lets in.
func sidecar(pair tls.Certificate, clients *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
}

// leaf is a service's leaf and key as Consul issues them.
func leaf(t testing.TB, c *api.Client, service string) tls.Certificate {
	t.Helper()
	l, _, err := c.Agent().ConnectCALeaf(service, nil)
	ok(t, err)
	pair, err := tls.X509KeyPair([]byte(l.CertPEM), []byte(l.PrivateKeyPEM))
	ok(t, err)
	return pair
}

// trusted are the roots that Consul lists.
func trusted(t testing.TB, c *api.Client) *x509.CertPool {
	t.Helper()
	list, _, err := c.Agent().ConnectCARoots(nil)
	ok(t, err)
	pool := x509.NewCertPool()
	for _, r := range list.Roots {
		pool.AppendCertsFromPEM([]byte(r.RootCertPEM))
	}
	return pool
}
