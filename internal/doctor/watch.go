// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// sighting is what came of an open connection while it was watched.
type sighting struct {
	sent  bool
	bytes []byte // the first of those that arrived
	err   error  // how it ended; nil: it is open
}

// probe is asked for nothing that a service has: the options of the server as a whole (RFC 9110 section 9.3.7).
const probe = "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nUser-Agent: consul-lambda-doctor\r\nConnection: close\r\n\r\n"

// watch reads until there is something to judge, or the deadline.
func watch(conn net.Conn, send bool, deadline time.Time) (s sighting) {
	_ = conn.SetDeadline(deadline)
	if send {
		s.sent = true
		if _, err := io.WriteString(conn, probe); err != nil {
			s.err = err
			return s
		}
	}
	buf := make([]byte, 4<<10)
	for len(s.bytes) < len(buf) {
		n, err := conn.Read(buf)
		s.bytes = append(s.bytes, buf[:n]...)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return s
		case err != nil:
			s.err = err
			return s
		case !send: // who speaks first is let speak; more would not tell more
			return s
		}
	}
	return s
}

// judge says what that means for intentions. Envoy's network filter decides at the client's first byte, its HTTP filter at a request:
// without one, only a denial that came earlier can be seen.
func (s sighting) judge(f finding, n names) Result {
	allow := "if an intention denies it, allow it: consul intention create -allow " + selfName(n) + " " + n.service.Name() +
		"; else see whether the service behind the sidecar is up"
	answer := ""
	if bytes.HasPrefix(s.bytes, []byte("HTTP/")) {
		answer, _, _ = strings.Cut(string(s.bytes), "\r\n")
	}
	switch {
	case isAlert(s.err):
		return f.fail(refusedRemedy, "the handshake was refused: %v", alertOf(s.err))
	case errors.Is(s.err, io.EOF) && len(s.bytes) == 0:
		return f.fail(allow, "the connection was closed without a byte: an intention denies this function, or the service is down")
	case s.err != nil && len(s.bytes) == 0:
		return f.fail("is the service behind the sidecar up? See the log of its sidecar", "the connection was cut without a byte: %v", s.err)
	case !s.sent && len(s.bytes) > 0:
		return f.skip("the service speaks first; whether an intention denies this function cannot be told before our first byte")
	case !s.sent:
		return f.skip("the connection stays open; whether an intention denies this function cannot be told before our first byte")
	case strings.Contains(answer, " 403 ") && bytes.Contains(s.bytes, []byte("RBAC")):
		return f.fail(allow, "%s, RBAC: an intention denies this function", answer)
	case answer != "":
		return f.ok("not denied: it answers %s", answer)
	case s.err == nil && len(s.bytes) > 0:
		return f.ok("not denied: it answers, though not in HTTP")
	case s.err == nil:
		return f.ok("not denied: the connection stays open after our first bytes, without an answer")
	}
	return f.skip("it spoke and then ended the connection: an intention may deny this function, or the service may not speak HTTP")
}
