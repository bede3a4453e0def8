// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
)

func TestMain(m *testing.M) {
	waittest.Parallel(4) // what is to be silent waits
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of these tests.
const patience = waittest.Patience

func newMesh(t testing.TB, cfg Config) *Mesh {
	t.Helper()
	m, err := New(cfg)
	ok(t, err)
	t.Cleanup(func() { ok(t, m.Close()) })
	return m
}

func addService(t testing.TB, m *Mesh, name string, h Handler) *Sidecar {
	t.Helper()
	s, err := m.AddService(name, h)
	ok(t, err)
	return s
}

func service(t testing.TB, name string) mesh.Service {
	t.Helper()
	s, err := mesh.NewService(name, "", "")
	ok(t, err)
	return s
}

func serviceID(t testing.TB, ca *CA, name string) mesh.ID {
	t.Helper()
	id, err := ca.ServiceID(service(t, name))
	ok(t, err)
	return id
}

func issue(t testing.TB, ca *CA, name string, opts LeafOptions) *Leaf {
	t.Helper()
	l, err := ca.Issue(serviceID(t, ca, name), opts)
	ok(t, err)
	return l
}

// clientConfig is what a correct client of the service would use: it shows
// leaf and demands the service's identity under the roots of ca.
func clientConfig(t testing.TB, ca *CA, name string, leaf *Leaf) *tls.Config {
	t.Helper()
	sni, err := mesh.ServiceSNI(service(t, name), ca.Datacenter(), ca.TrustDomain())
	ok(t, err)
	return &tls.Config{
		ServerName:         sni.String(),
		Certificates:       []tls.Certificate{leaf.Certificate},
		InsecureSkipVerify: true, // there is no DNS name to verify; see VerifyConnection
		VerifyConnection:   verifyServer(ca.RootsPool(), serviceID(t, ca, name)),
	}
}

func verifyServer(roots *x509.CertPool, want mesh.ID) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		intermediates := x509.NewCertPool()
		for _, c := range cs.PeerCertificates[1:] {
			intermediates.AddCert(c)
		}
		opts := x509.VerifyOptions{Roots: roots, Intermediates: intermediates}
		if _, err := cs.PeerCertificates[0].Verify(opts); err != nil {
			return err
		}
		got, err := mesh.ParseID(cs.PeerCertificates[0].URIs[0])
		if err != nil {
			return err
		}
		if !got.Matches(want) {
			return errors.New("wrong identity " + got.String())
		}
		return nil
	}
}

// connect dials a service through the first gateway as "caller".
func connect(t testing.TB, m *Mesh, name string) *tls.Conn {
	t.Helper()
	c, err := dialTLS(t, m.Gateway.Addr(), clientConfig(t, m.CA, name, issue(t, m.CA, "caller", LeafOptions{})))
	ok(t, err)
	return c
}

// dialTLS finishes a handshake within patience. The connection is closed with the test.
func dialTLS(t testing.TB, addr string, cfg *tls.Config) (*tls.Conn, error) {
	t.Helper()
	raw := dialRaw(t, addr)
	return handshake(t, raw, cfg)
}

func handshake(t testing.TB, raw net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := tls.Client(raw, cfg)
	ok(t, raw.SetDeadline(time.Now().Add(patience)))
	return c, c.HandshakeContext(ctx)
}

func dialRaw(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := dial(ctx, addr, patience)
	ok(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// roundTrip sends s to an echo and wants it back.
func roundTrip(t testing.TB, c net.Conn, s string) {
	t.Helper()
	_, err := io.WriteString(c, s)
	ok(t, err)
	buf := make([]byte, len(s))
	_, err = io.ReadFull(c, buf)
	ok(t, err)
	if string(buf) != s {
		t.Fatalf("echo of %q came back as %q", s, buf)
	}
}

// hangs demands that nothing can be read from c for a moment.
func hangs(t testing.TB, c net.Conn) {
	t.Helper()
	ok(t, c.SetReadDeadline(time.Now().Add(150*time.Millisecond)))
	var one [1]byte
	if _, err := c.Read(one[:]); !isTimeout(err) {
		t.Fatalf("read: %v, want a time-out", err)
	}
	ok(t, c.SetReadDeadline(time.Now().Add(patience)))
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wireTap records what is read from a connection.
type wireTap struct {
	net.Conn
	mu   sync.Mutex
	read []byte
}

func (w *wireTap) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = append(w.read, p[:n]...)
	return n, err
}

// sawAlert reports whether a TLS 1.2 alert record came; in 1.3 they look like data.
func (w *wireTap) sawAlert() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for b := w.read; len(b) >= recordHeaderLen; {
		if b[0] == 21 {
			return true
		}
		b = b[min(len(b), recordHeaderLen+int(b[3])<<8+int(b[4])):]
	}
	return false
}
