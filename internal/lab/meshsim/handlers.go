// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// Conn is a stream that can end one direction and go on with the other.
// [tls.Conn] and [net.TCPConn] are.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Handler is the application behind a sidecar: it owns the conversation, not
// the connection, which the sidecar closes when the handler returns. Errors
// are its own affair. It must return when the connection fails.
//
// A handler that returns while the client still sends makes the kernel answer
// with RST, which can overtake what it wrote; those below read to the end first.
type Handler func(Conn)

// Echo sends back what it receives, then ends its direction.
func Echo(c Conn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// Digest reads to the end of the client's direction and only then answers:
// with the SHA-256 of what came, 64 hexadecimal digits.
func Digest(c Conn) {
	h := sha256.New()
	if _, err := io.Copy(h, c); err != nil {
		return
	}
	_, _ = io.WriteString(c, hex.EncodeToString(h.Sum(nil)))
	_ = c.CloseWrite()
}

// Received is what a [Sink] took in.
type Received struct {
	Bytes  int64
	SHA256 [sha256.Size]byte
	Err    error // nil if the client ended its direction properly
}

// Sink returns a handler that answers nothing and says at the end what it
// read. A nil done is not called; a done that blocks keeps the sidecar's Close waiting.
func Sink(done func(Received)) Handler {
	return func(c Conn) {
		h := sha256.New()
		n, err := io.Copy(h, c)
		_ = c.CloseWrite()
		if done != nil {
			done(Received{Bytes: n, SHA256: [sha256.Size]byte(h.Sum(nil)), Err: err})
		}
	}
}

// Source returns a handler that sends the n bytes of [Pattern], ends its
// direction, and waits for the client to end its own.
func Source(n int64) Handler {
	return func(c Conn) {
		_, _ = io.Copy(c, Pattern(n))
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
}

// Pattern returns a reader of n bytes that are always the same and do not
// repeat, so that what is lost, doubled or swapped shows.
func Pattern(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{'l', 'a', 'b'}), n)
}

// Banner returns a handler for a protocol in which the server speaks first:
// it sends text, then echoes.
func Banner(text string) Handler {
	return func(c Conn) {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		Echo(c)
	}
}

// HTTP returns a handler that serves HTTP/1.1 on the connection. A hijacked
// connection is closed.
func HTTP(h http.Handler) Handler {
	return func(c Conn) {
		one := &oneConnListener{conn: c, done: make(chan struct{})}
		srv := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: time.Hour, // Envoy's idle timeout: a spare may wait long for its first request
			ErrorLog:          log.New(io.Discard, "", 0),
			ConnState: func(_ net.Conn, st http.ConnState) {
				if st == http.StateClosed || st == http.StateHijacked {
					one.end()
				}
			},
		}
		_ = srv.Serve(one) // until the connection has ended
	}
}

// oneConnListener accepts one connection, then blocks until it has ended.
type oneConnListener struct {
	conn net.Conn
	mu   sync.Mutex
	done chan struct{}
}

func (l *oneConnListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *oneConnListener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
	default:
		close(l.done)
	}
}

func (l *oneConnListener) Close() error   { l.end(); return nil }
func (l *oneConnListener) Addr() net.Addr { return &net.TCPAddr{} }

// Truncate returns h with every connection cut off, without close_notify,
// once the application has written n bytes: a sidecar that dies. With EndFIN
// the client sees a bare FIN, at the end of a TLS record.
func Truncate(h Handler, n int64, how End) Handler {
	return func(c Conn) {
		raw := rawConn(c)
		if raw == nil {
			return
		}
		cut := &cutConn{Conn: c, raw: raw, left: n, how: how}
		if n == 0 {
			cut.strike()
		} else {
			h(cut)
		}
		if how != EndRST {
			// Read on, or the kernel would follow up the FIN with a RST.
			_, _ = io.Copy(io.Discard, raw)
		}
		_ = raw.Close()
	}
}

// cutConn ends the TCP connection beneath TLS after left bytes.
type cutConn struct {
	Conn
	raw  *net.TCPConn
	mu   sync.Mutex
	left int64
	how  End
}

var errCut = errors.New("meshsim: cut by fault")

func (c *cutConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		return 0, errCut
	}
	keep := min(int64(len(p)), c.left)
	n, err := c.Conn.Write(p[:keep])
	if c.left -= int64(n); err == nil && c.left == 0 {
		c.strike()
	}
	if err == nil && n < len(p) {
		err = errCut
	}
	return n, err
}

func (c *cutConn) strike() {
	if c.how == EndRST {
		reset(c.raw)
		return
	}
	_ = c.raw.CloseWrite()
}

// rawConn returns the TCP connection beneath c, or nil.
func rawConn(c Conn) *net.TCPConn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		raw, _ := t.NetConn().(*net.TCPConn)
		return raw
	}
	raw, _ := c.(*net.TCPConn)
	return raw
}
