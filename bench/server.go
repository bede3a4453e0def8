// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// What a client may ask, by its first byte.
const (
	opEcho = 'e' // whatever follows is sent back
	opDown = 'd' // a number of 8 bytes follows: so many bytes are sent
	opUp   = 'u' // a number of 8 bytes follows, and so many bytes: one byte is sent when all are there
)

// request is the beginning of a connection that moves n bytes one way.
func request(op byte, n int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{op}, uint64(n))
}

// server is the destination, and the gateway before it: it ends mutual TLS, or serves plain TCP. Each system has its own,
// in this process, so that no two share ports or tickets.
type server struct {
	ln     *net.TCPListener
	tls    *tls.Config // nil: plain TCP
	oneWay atomic.Int64
	wg     sync.WaitGroup

	handshakes, resumed atomic.Int64

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// newServer listens on 127.0.0.1. The caller closes it.
func newServer(ctx context.Context, cfg *tls.Config) (*server, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false) // cannot be spliced
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the server: %w", err)
	}
	s := &server{ln: ln.(*net.TCPListener), tls: cfg, conns: make(map[net.Conn]struct{})}
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

func (s *server) addr() string { return s.ln.Addr().String() }

// setRTT sets the round trip time of connections that are accepted from now on.
func (s *server) setRTT(rtt time.Duration) { s.oneWay.Store(int64(rtt / 2)) }

// close ends all connections and waits for their handlers.
func (s *server) close() {
	_ = s.ln.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// accept accepts until the listener is closed. Owner: close.
func (s *server) accept() {
	defer s.wg.Done()
	for {
		raw, err := s.ln.AcceptTCP()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = raw.Close()
			return
		}
		s.conns[raw] = struct{}{}
		s.wg.Add(1)
		s.mu.Unlock()
		go s.serve(raw)
	}
}

// serve sees one connection to its end. Owner: close.
func (s *server) serve(raw *net.TCPConn) {
	defer s.wg.Done()
	defer func() {
		s.mu.Lock()
		delete(s.conns, raw)
		s.mu.Unlock()
	}()
	var c net.Conn = raw
	if late := time.Duration(s.oneWay.Load()); late > 0 {
		delayed, err := delay(raw, late)
		if err != nil {
			_ = raw.Close()
			return
		}
		defer func() { <-delayed.gone }() // after the Close below
		c = delayed
	}
	if s.tls != nil {
		secure := tls.Server(c, s.tls)
		defer secure.Close()
		if err := secure.HandshakeContext(context.Background()); err != nil { // ends with the connection, which close ends
			return
		}
		s.handshakes.Add(1)
		if secure.ConnectionState().DidResume {
			s.resumed.Add(1)
		}
		c = secure
	}
	defer c.Close()
	answer(c)
}

// buffers are for answer: large enough that the server does not hold the proxy up.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// answer does what the client asks, and ignores errors: the client sees them.
func answer(c net.Conn) {
	var op [1]byte
	if _, err := io.ReadFull(c, op[:]); err != nil {
		return
	}
	if op[0] == opEcho {
		echo(c)
		return
	}
	var size [8]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	n := int64(binary.BigEndian.Uint64(size[:]))
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	switch op[0] {
	case opDown:
		for n > 0 {
			m, err := c.Write(buf[:min(n, int64(len(buf)))])
			if n -= int64(m); err != nil {
				return
			}
		}
	case opUp:
		for n > 0 {
			m, err := c.Read(buf[:min(n, int64(len(buf)))])
			if n -= int64(m); err != nil {
				return
			}
		}
		if _, err := c.Write(op[:]); err != nil {
			return
		}
	}
	_, _ = c.Read(op[:]) // the client ends first
}

// echo holds a small buffer: thousands of these are idle at once.
func echo(c net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
