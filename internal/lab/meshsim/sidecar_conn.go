// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// sidecarConn is one connection, both as TLS and beneath it.
type sidecarConn struct {
	*tls.Conn
	raw *net.TCPConn
}

// end ends the sidecar's direction of the connection, or with EndRST all of it.
func (c *sidecarConn) end(how End) {
	if how == EndRST {
		reset(c.raw)
		return
	}
	// A handler may be stuck in a write and hold the lock that close_notify
	// needs; one second sets it free.
	_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second))
	if how == EndNotify {
		_ = c.Conn.CloseWrite()
	}
	_ = c.raw.CloseWrite()
}

// serveConn sees one connection from handshake to close. Owner: Close.
func (s *Sidecar) serveConn(ctx context.Context, c *sidecarConn) {
	defer s.wg.Done()
	defer func() {
		_ = c.Close() // close_notify, if the handler sent none
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := c.HandshakeContext(ctx)
	cancel()
	if err != nil {
		s.count(func(st *SidecarStats) { st.HandshakesFailed++ })
		s.log.Debug("handshake failed", "service", s.cfg.ID.String(), "err", err)
		return
	}
	cs := c.ConnectionState()
	client, err := clientID(cs)
	if err != nil {
		return // verifyClient let it pass a moment ago
	}
	denied := s.cfg.Intentions.Check(client) == Deny
	s.mu.Lock()
	handler := s.handler
	s.stats.Handshakes++
	s.stats.Clients[serialOf(cs.PeerCertificates[0])]++
	if cs.DidResume {
		s.stats.Resumed++
	}
	if !denied {
		s.stats.Accepted++
	}
	s.mu.Unlock()
	switch {
	case !denied:
		handler(c.Conn)
	case s.cfg.DenyAt == DenyOnFirstByte:
		handler(&deniedConn{Conn: c.Conn, deny: sync.OnceFunc(s.countDenied)})
	default:
		s.countDenied()
	}
}

// deniedConn lets the application write until the client has been heard from.
type deniedConn struct {
	*tls.Conn
	deny func()
}

// errDenied is what the application reads from a denied client.
var errDenied = errors.New("meshsim: denied by intention")

// Read throws the client's first bytes away and closes.
func (c *deniedConn) Read(p []byte) (int, error) {
	if n, err := c.Conn.Read(p); n == 0 && !errors.Is(err, io.EOF) {
		return 0, err
	}
	c.deny()
	_ = c.Close()
	return 0, errDenied
}
