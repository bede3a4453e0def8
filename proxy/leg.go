// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"io"
	"net"
	"syscall"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/sock"
)

// CloseWriter is a leg that can end what it sends and still receive. Without it, ending means closing.
type CloseWriter interface {
	CloseWrite() error
}

// Resetter is a leg that can be closed so that its peer sees a cut stream, not a clean end. Without it, a TCP connection
// is reset, and anything else closed.
type Resetter interface {
	Reset() error
}

// Waiter is a leg that can wait, without a buffer, until Read has bytes, an end or an error to give. A connection on
// which nothing flows then holds no buffer. A read deadline must end the wait.
type Waiter interface {
	Wait()
}

// closeWrite half-closes a leg (R6).
func closeWrite(c net.Conn) error {
	if cw, ok := c.(CloseWriter); ok {
		return cw.CloseWrite()
	}
	return c.Close()
}

// reset closes a leg so that its peer sees a cut, not an end (R5).
func reset(c net.Conn) {
	switch c := c.(type) {
	case Resetter:
		_ = c.Reset()
	case *net.TCPConn:
		_ = c.SetLinger(0) // makes Close send a reset
		_ = c.Close()
	default:
		_ = c.Close()
	}
}

// source reads the next bytes of a leg into a buffer that it borrows when there are some. The caller gives the buffer
// back, if it is not nil. At the end of the stream the error is io.EOF.
type source interface {
	next(bufs *bufpool.Pool, size int) (*bufpool.Buffer, error)
}

// newSource picks the best way to read a leg.
func newSource(c net.Conn) source {
	if w, ok := c.(Waiter); ok {
		return waitSource{w, c}
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			return newTCPSource(raw)
		}
	}
	return plainSource{c}
}

// waitSource waits before it borrows.
type waitSource struct {
	Waiter
	io.Reader
}

func (s waitSource) next(bufs *bufpool.Pool, size int) (*bufpool.Buffer, error) {
	s.Wait()
	return plainSource{s.Reader}.next(bufs, size)
}

// plainSource has to hold a buffer while it waits.
type plainSource struct{ io.Reader }

func (s plainSource) next(bufs *bufpool.Pool, size int) (*bufpool.Buffer, error) {
	buf := bufs.Get(size)
	n, err := s.Read(buf.B)
	if n > 0 {
		buf.B = buf.B[:n]
		return buf, nil // an error comes again
	}
	bufs.Put(buf)
	return nil, err
}

// tcpSource reads a descriptor with a buffer that it borrows for each attempt: as many system calls as net.TCPConn.Read,
// and no buffer while it waits.
type tcpSource struct {
	raw  syscall.RawConn
	try  func(fd uintptr) (done bool) // readOnce, made a func value once
	bufs *bufpool.Pool
	size int
	buf  *bufpool.Buffer
	err  error
}

func newTCPSource(raw syscall.RawConn) *tcpSource {
	s := &tcpSource{raw: raw}
	s.try = s.readOnce
	return s
}

func (s *tcpSource) next(bufs *bufpool.Pool, size int) (*bufpool.Buffer, error) {
	s.bufs, s.size, s.buf, s.err = bufs, size, nil, nil
	if err := s.raw.Read(s.try); err != nil {
		return nil, err
	}
	return s.buf, s.err
}

// readOnce is called by the poller, at first and whenever the descriptor became readable.
func (s *tcpSource) readOnce(fd uintptr) (done bool) {
	buf := s.bufs.Get(s.size)
	n, err := sock.Read(fd, buf.B)
	if n > 0 {
		buf.B = buf.B[:n]
		s.buf = buf
		return true
	}
	s.bufs.Put(buf)
	switch {
	case err == syscall.EAGAIN:
		return false
	case err != nil:
		s.err = err
	default:
		s.err = io.EOF
	}
	return true
}
