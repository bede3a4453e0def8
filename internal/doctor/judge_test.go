// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

func webNames(t testing.TB) names {
	t.Helper()
	web, err := mesh.NewService("web", "", "")
	if err != nil {
		t.Fatal(err)
	}
	checkout, err := mesh.NewService("checkout", "", "")
	if err != nil {
		t.Fatal(err)
	}
	self, err := mesh.ServiceID(checkout, "dc1", "td.consul")
	if err != nil {
		t.Fatal(err)
	}
	return names{service: web, self: self, sni: "web.default.dc1.internal.td.consul", datacenter: "dc1"}
}

var alert = &net.OpError{Op: "remote error", Err: errors.New("tls: unknown certificate authority")}

func TestWhatBecomesOfAConnectionIsJudged(t *testing.T) {
	t.Parallel()
	const (
		answered = "HTTP/1.1 200 OK\r\n\r\n"
		denied   = "HTTP/1.1 403 Forbidden\r\n\r\nRBAC: access denied"
		its403   = "HTTP/1.1 403 Forbidden\r\n\r\nlog in first"
	)
	for _, c := range []struct {
		seen   sighting
		status Status
		says   string
	}{
		{sighting{}, Skip, "cannot be told"},
		{sighting{bytes: []byte("220 mail")}, Skip, "speaks first"},
		{sighting{err: io.EOF}, Fail, "closed without a byte"},
		{sighting{err: tlsstate.ErrTruncated}, Fail, "cut without a byte"},
		{sighting{err: alert}, Fail, "refused: tls: unknown certificate authority"},
		{sighting{sent: true, err: io.EOF}, Fail, "closed without a byte"},
		{sighting{sent: true, err: alert}, Fail, "refused"},
		{sighting{sent: true, bytes: []byte(answered), err: io.EOF}, OK, "answers HTTP/1.1 200 OK"},
		{sighting{sent: true, bytes: []byte(denied), err: io.EOF}, Fail, "an intention denies"},
		{sighting{sent: true, bytes: []byte(its403)}, OK, "403"},
		{sighting{sent: true, bytes: []byte("echo")}, OK, "not in HTTP"},
		{sighting{sent: true}, OK, "stays open"},
		{sighting{sent: true, bytes: []byte("220 mail"), err: io.EOF}, Skip, "may deny"},
	} {
		r := c.seen.judge(finding{"intention", "web:8080"}, webNames(t))
		if r.Status != c.status || !strings.Contains(r.Detail, c.says) {
			t.Errorf("%+v: %+v, want %s that says %q", c.seen, r, c.status, c.says)
		}
		if (r.Remedy != "") != (r.Status == Fail) {
			t.Errorf("%+v: remedy %q", c.seen, r.Remedy)
		}
	}
}

func TestAFailedDialIsExplainedWithARemedy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err          error
		says, remedy string
	}{
		{tlsstate.ErrTruncated, "no route for web.default.dc1.internal.td.consul", "registered in datacenter dc1"},
		{io.EOF, "no route", "sidecar up"},
		{syscall.ECONNRESET, "no route", "sidecar up"},
		{tlsstate.ErrIdentity, "not the upstream", "service-resolver"},
		{x509.UnknownAuthorityError{}, "not vouched for", "rotated"},
		{x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}, "not valid now", "clock"},
		{tls.RecordHeaderError{Msg: "not TLS"}, "does not speak TLS", "port"},
		{alert, "handshake was refused", "trust our leaf"},
		{context.DeadlineExceeded, "did not end in time", "reach the destination"},
		{tlsstate.ErrPeerIncomplete, "peering", "registrator"},
		{tlsstate.ErrNoGateway, "no mesh gateway", "restarted"},
	} {
		detail, remedy := webNames(t).explain(fmt.Errorf("dialling: %w", c.err))
		if !strings.Contains(detail, c.says) || !strings.Contains(remedy, c.remedy) {
			t.Errorf("%v: %q, %q", c.err, detail, remedy)
		}
	}
}
