// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
)

const (
	tokenPath  = "/secrets/consul-token"
	caCertPath = "/secrets/consul-ca"
)

func newSharedConsul(t testing.TB, cfg consulsim.Config) *consulsim.Server {
	t.Helper()
	s, err := consulsim.Start(cfg)
	ok(t, err)
	t.Cleanup(s.Close)
	return s
}

// A token that is rotated in Parameter Store is used by the next invocation of the same process. A refused one fails the run, in
// words that name the token's rights, and deletes nothing (G2).
func TestARotatedTokenIsUsedByTheNextInvocation(t *testing.T) {
	t.Parallel()
	rules := func(write bool) []consulsim.Rule {
		return []consulsim.Rule{{Resource: "node", Write: write}, {Resource: "service", Write: write}, {Resource: "peering"}}
	}
	consul := newSharedConsul(t, consulsim.Config{Tokens: []consulsim.Token{
		{SecretID: "token-that-may-read", AccessorID: "reader", Rules: rules(false)},
		{SecretID: "token-that-may-write", AccessorID: "writer", Rules: rules(true)},
	}})
	a := newAccount(t, lab.ControlConfig{
		Consul: consul, Quiet: true, Env: env{"CONSUL_HTTP_TOKEN_PATH": tokenPath, "CONSUL_LAMBDA_RATE_SSM_PUT": "0"},
	})
	a.addFunctions(2, 2)
	contains(t, a.failure(), "CONSUL_HTTP_TOKEN_PATH", tokenPath)
	a.world.Store.Put(tokenPath, "\n") // without it, it would be whoever the environment says, or nobody
	contains(t, a.failure(), "CONSUL_HTTP_TOKEN_PATH", tokenPath, "is empty")

	a.world.Store.Put(tokenPath, "token-that-may-read\n")
	contains(t, a.failure(), "Permission denied", "write")
	if len(a.registered()) != 0 {
		t.Errorf("the catalog has %v", a.registered())
	}

	a.world.Store.Put(tokenPath, "token-that-may-write\n")
	pid := a.Sandbox().RuntimePID()
	if got := a.run(); got.Created != 2 {
		t.Errorf("with the new token: %+v", got)
	}
	before := a.state()
	a.world.Store.Put(tokenPath, "token-that-was-revoked\n")
	contains(t, a.failure(), "ACL not found")
	a.world.Store.Put(tokenPath, "token-that-may-write\n")
	a.run()
	if a.Sandbox().RuntimePID() != pid {
		t.Error("it took another process")
	}
	for _, s := range []string{tokenPath, path(name(0)), path(name(1))} {
		if !strings.Contains(before, s) || !strings.Contains(a.state(), s) {
			t.Errorf("%s is gone", s)
		}
	}
	for _, l := range a.Sandbox().Logs() {
		if strings.Contains(l.Text, "token-that-") {
			t.Errorf("the log holds a token: %s", l.Text)
		}
	}
}

// A CA certificate that is rotated in Parameter Store is trusted by the next invocation of the same process, and the old one is not.
func TestARotatedCACertificateIsTrustedByTheNextInvocation(t *testing.T) {
	t.Parallel()
	consul := newSharedConsul(t, consulsim.Config{})
	target, err := url.Parse("http://" + consul.Addr())
	ok(t, err)
	old, young := selfSigned(t), selfSigned(t)
	var shown atomic.Pointer[tls.Certificate]
	shown.Store(&old)
	proxy := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(target))
	proxy.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*shown.Load()}, SessionTicketsDisabled: true}, nil
	}}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)

	a := newAccount(t, lab.ControlConfig{
		Consul: consul, Quiet: true,
		Env: env{"CONSUL_HTTP_ADDR": proxy.URL, "CONSUL_CACERT_PATH": caCertPath, "CONSUL_LAMBDA_RATE_SSM_PUT": "0"},
	})
	a.addFunctions(1, 1)
	a.world.Store.Put(caCertPath, certificatePEM(old))
	if got := a.run(); got.Created != 1 {
		t.Errorf("with the first certificate: %+v", got)
	}
	before := a.state()
	shown.Store(&young)
	proxy.CloseClientConnections()
	contains(t, a.failure(), "x509")
	a.sameState(before)
	a.world.Store.Put(caCertPath, certificatePEM(young))
	if got := a.run(); got.Failed != 0 || got.Enabled != 1 {
		t.Errorf("with the second certificate: %+v", got)
	}
}

// selfSigned makes a certificate for 127.0.0.1 that is its own authority.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ok(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func certificatePEM(c tls.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
}
