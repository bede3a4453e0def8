// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/bytebufferpool"
	"golang.org/x/sys/unix"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/sock"
)

// wire is the raw side of a Conn: what crypto/tls reads its records from and writes them to. It does three things that
// crypto/tls does not:
//
//   - The end of the raw stream is ErrTruncated, never io.EOF. crypto/tls takes a bare FIN between two records for a
//     clean end; with wire beneath it, io.EOF from tls.Conn.Read means close_notify and nothing else (R5).
//   - It reads ahead into a pooled buffer that it takes when bytes are there and gives back when they are used up: many
//     records per system call in a stream, no buffer while nothing flows. With noWait set, a Read that would wait
//     returns errWouldWait instead, which crypto/tls treats as a passed read deadline: nothing is lost.
//   - Between cork and uncork it collects the records of one large write and sends them together.
type wire struct {
	net.Conn // the raw connection; reads and writes go through the methods below

	bufs *bufpool.Pool
	out  io.Writer       // writes to the raw connection
	raw  syscall.RawConn // nil for a connection without descriptor: then every read may wait

	// What follows is the reader's: one goroutine at a time.
	noWait  bool            // a Read returns errWouldWait rather than wait
	drained bool            // the last read of the descriptor left nothing behind, so that asking again is futile
	next    int             // size of the buffer to read into next
	buf     *bufpool.Buffer // what was read ahead and not yet used; nil when there is none
	rest    []byte          // the unused part of buf
	rerr    error           // sticky
	tryRead func(fd uintptr) (done bool)
	waiting bool // argument of tryRead: whether to wait for bytes

	parked atomic.Bool // the reader waits, and has seen all that the descriptor had when it began to; anyone may ask

	halfClosing atomic.Bool // CloseWrite was called: see SetWriteDeadline

	mu     sync.Mutex // a reader may have to write too: an alert, a KeyUpdate
	corked *bytebufferpool.ByteBuffer
	werr   error // sticky: after part of a record, or none of one that crypto/tls takes for sent, nothing makes sense
}

func newWire(conn net.Conn, bufs *bufpool.Pool) *wire {
	w := &wire{Conn: conn, out: sock.NewWriter(conn), bufs: bufs, next: bufpool.Min}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw = raw
			w.tryRead = w.readDescriptor
		}
	}
	return w
}

// Read gives crypto/tls the bytes read ahead, and reads more when there are none.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.rest) == 0 {
		if err := w.fill(!w.noWait); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.rest)
	w.use(n)
	return n, nil
}

// wait returns when Read has bytes or an error to give. It holds no buffer meanwhile.
func (w *wire) wait() error {
	if len(w.rest) > 0 {
		return nil
	}
	return w.fill(true)
}

// quiet reports that the reader waits, and that nothing has arrived which it has not seen: no byte, no end, no reset. It
// may be called while it does.
func (w *wire) quiet() bool {
	if w.raw == nil {
		return w.parked.Load()
	}
	// In this order: the reader may have emptied the socket just now, and then has said before that it waits no more.
	return w.silent() && w.parked.Load()
}

// silent reports that nothing lies in the socket: no byte, no end, no reset. There must be a descriptor.
func (w *wire) silent() bool {
	empty := false
	err := w.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		empty = err == unix.EAGAIN
	})
	return err == nil && empty
}

// closed reports that the peer has ended the raw connection, although what it sent before may not have been read.
func (w *wire) closed() bool {
	closed := false
	if w.raw != nil {
		_ = w.raw.Control(func(fd uintptr) { closed = socketClosed(int(fd)) })
	}
	return closed
}

func (w *wire) use(n int) {
	if w.rest = w.rest[n:]; len(w.rest) == 0 && w.buf != nil {
		w.bufs.Put(w.buf)
		w.buf, w.rest = nil, nil
	}
}

// fill reads ahead. It returns nil with at least one byte in rest, or an error; errWouldWait only if wait is false.
func (w *wire) fill(wait bool) error {
	if w.rerr != nil {
		return w.rerr
	}
	if w.raw == nil {
		return w.fillPlain(wait)
	}
	if !wait && w.drained {
		return errWouldWait
	}
	w.waiting = wait
	if err := w.raw.Read(w.tryRead); err != nil && w.rerr == nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			return err // a read deadline: may be repeated
		}
		w.rerr = err
	}
	switch {
	case w.rerr != nil:
		return w.rerr
	case len(w.rest) == 0:
		return errWouldWait
	}
	return nil
}

// readDescriptor is called by the poller with the descriptor, once at first and again each time it became readable.
func (w *wire) readDescriptor(fd uintptr) (done bool) {
	w.parked.Store(false) // before the read: see quiet
	buf := w.bufs.Get(w.next)
	n, err := sock.Read(fd, buf.B)
	switch {
	case n > 0:
		w.drained = n < len(buf.B)
		buf.B = buf.B[:n]
		w.buf, w.rest, w.next = buf, buf.B, buf.Next()
		return true
	case err == unix.EAGAIN:
		w.bufs.Put(buf)
		w.drained = true
		w.parked.Store(w.waiting)
		return !w.waiting
	case err != nil:
		w.rerr = &net.OpError{Op: "read", Net: "tcp", Source: w.LocalAddr(), Addr: w.RemoteAddr(), Err: err}
	default:
		w.rerr = ErrTruncated
	}
	w.bufs.Put(buf)
	return true
}

// fillPlain reads from a connection that has no descriptor to ask (a pipe, in tests).
func (w *wire) fillPlain(wait bool) error {
	if !wait {
		return errWouldWait
	}
	buf := w.bufs.Get(bufpool.Record)
	w.parked.Store(true)
	n, err := w.Conn.Read(buf.B)
	w.parked.Store(false)
	if n > 0 {
		w.buf, w.rest = buf, buf.B[:n]
		return nil
	}
	w.bufs.Put(buf)
	if err == io.EOF {
		err = ErrTruncated
	}
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
		w.rerr = err
	}
	return err
}

// Write sends p, or keeps it for uncork.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.werr != nil {
		return 0, w.werr
	}
	if w.corked != nil {
		return w.corked.Write(p)
	}
	var n int
	n, w.werr = w.out.Write(p)
	return n, w.werr
}

// SetWriteDeadline is called by crypto/tls alone, for its close_notify: 5 s before, the past after. In a half-close it is
// passed over, because close_notify is sent later, by uncork, under the deadline of the Conn's user.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.halfClosing.Load() {
		return nil
	}
	return w.Conn.SetWriteDeadline(t)
}

// cork makes Write collect what it is given.
func (w *wire) cork() {
	w.mu.Lock()
	w.corked = bytebufferpool.Get()
	w.mu.Unlock()
}

// uncork sends what was collected, in one write.
func (w *wire) uncork() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.corked
	w.corked = nil
	defer bytebufferpool.Put(b)
	if b.Len() == 0 {
		return w.werr
	}
	if _, err := w.out.Write(b.B); err != nil && w.werr == nil {
		w.werr = err
	}
	return w.werr
}

// release gives the read-ahead buffer back. The reader must have stopped.
func (w *wire) release() { w.use(len(w.rest)) }

// reset ends the connection so that the peer sees a reset: what was cut here must not look complete there.
func (w *wire) reset() error {
	if tcp, ok := w.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return w.Conn.Close()
}
