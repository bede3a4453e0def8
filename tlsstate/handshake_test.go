// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// R4: TLS 1.3 is preferred, 1.2 is enough, 1.1 is not.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	doc := ca.Doc(t, certtest.Service(t, "fn"))
	for name, tc := range map[string]struct{ highest, want uint16 }{
		"1.3": {tls.VersionTLS13, tls.VersionTLS13},
		"1.2": {tls.VersionTLS12, tls.VersionTLS12},
		"1.1": {tls.VersionTLS11, 0},
		"1.0": {tls.VersionTLS10, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
			cfg.MaxVersion = tc.highest
			versions := make(chan uint16, 1)
			cfg.VerifyConnection = func(cs tls.ConnectionState) error { versions <- cs.Version; return nil }
			w := start(t, storeOf(t, doc), tlsstate.Config{Gateways: []string{destination(t, cfg)}})
			if tc.want == 0 {
				if err := w.refused(t, 0); errors.Is(err, tlsstate.ErrNoGateway) {
					t.Errorf("refused for another reason: %v", err)
				}
				return
			}
			w.dial(t, 0)
			if got := <-versions; got != tc.want {
				t.Errorf("speaks %s, want %s", tls.VersionName(got), tls.VersionName(tc.want))
			}
		})
	}
}

// R4: a protocol that is offered would have to be chosen by a sidecar of a tcp service, which has none.
func TestNoApplicationProtocolIsOffered(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	addr, hellos := sniRecorder(t, ca.Leaf(t, id(t, ca, "web")))
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{addr}})
	w.dial(t, 0)
	if hello := <-hellos; len(hello.SupportedProtos) != 0 {
		t.Errorf("offers %q", hello.SupportedProtos)
	}
}

// R4: sessions are resumed unless that is switched off, in both versions, again and again.
func TestSessionsAreResumed(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		for name, noResumption := range map[string]bool{"by default": false, "not if switched off": true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ca := certtest.NewCA(t)
				cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
				cfg.MinVersion, cfg.MaxVersion = version, version
				w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{
					Gateways:     []string{destination(t, cfg)},
					NoResumption: noResumption,
				})
				for i := range 5 {
					if got, want := w.dial(t, 0).Resumed(), i > 0 && !noResumption; got != want {
						t.Errorf("connection %d: resumed is %v, want %v", i, got, want)
					}
				}
			})
		}
	})
}

// R4: a server that forgot its ticket keys costs a full handshake, not the connection.
func TestRefusedTicketFallsBackToAFullHandshake(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		ca := certtest.NewCA(t)
		cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
		cfg.MinVersion, cfg.MaxVersion = version, version
		cfg.SetSessionTicketKeys([][32]byte{{1}})
		w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{destination(t, cfg)}})
		w.dial(t, 0)
		cfg.SetSessionTicketKeys([][32]byte{{2}})
		if w.dial(t, 0).Resumed() {
			t.Error("a ticket under a forgotten key was resumed")
		}
		if !w.dial(t, 0).Resumed() {
			t.Error("the new ticket was not used")
		}
	})
}

// The records of a stream are as large as TLS lets them be, from the first one on: crypto/tls would begin with one per
// TCP segment, which costs a system call, a tag and a decryption each.
func TestFullRecordsFromTheFirstWriteOn(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
	lengths := make(chan []int, 1)
	gateway := listen(t, "127.0.0.1:0", func(raw net.Conn) {
		tap := &recordTap{Conn: raw}
		c := tls.Server(tap, cfg)
		if c.Handshake() == nil {
			tap.lengths = nil
			_, _ = io.Copy(io.Discard, c)
			lengths <- tap.lengths
		}
	})
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{gateway}})
	c, err := w.try(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(pattern(16 << 10)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := <-lengths; len(got) != 2 { // and close_notify
		t.Errorf("16 KiB went out in records of %d bytes and a close_notify, want one record", got)
	}
}

// recordTap notes the lengths of the records that pass, headers excluded.
type recordTap struct {
	net.Conn
	pending []byte
	lengths []int
}

func (r *recordTap) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.pending = append(r.pending, p[:n]...)
	for len(r.pending) >= 5 {
		length := int(r.pending[3])<<8 | int(r.pending[4])
		if len(r.pending) < 5+length {
			break
		}
		r.lengths = append(r.lengths, length)
		r.pending = r.pending[5+length:]
	}
	return n, err
}
