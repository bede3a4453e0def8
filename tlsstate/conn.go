// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
)

// Conn is an mTLS connection to an upstream whose identity was verified. It is a net.Conn with more exact ends:
//
//   - Read returns io.EOF only after the peer's close_notify. A stream that was cut ends with another error.
//   - CloseWrite half-closes. Close ends both directions in order; Reset ends them so that the peer sees a cut.
//   - Wait blocks without a buffer until Read has something to say.
//
// Read fills its argument with as many records as have arrived, so that a large buffer saves system calls; Write sends
// the records of a large buffer together, 256 KiB at a time, and a small one at once. One goroutine may read while another
// writes; two may not write at once.
type Conn struct {
	tls        *tls.Conn
	wire       *wire
	generation uint64
	resumed    bool
	shook      time.Duration // how long its handshake took
	collecting atomic.Bool   // a large Write is under way

	readMu sync.Mutex
	early  []byte  // what was read before Read asked for it
	one    [1]byte // what early holds after Wait
	first  func()  // called by the first Read that has bytes

	hasEarly atomic.Bool // while parked: early is not empty; anyone may ask
}

var (
	_ net.Conn     = (*Conn)(nil)
	_ syscall.Conn = (*Conn)(nil)
)

// corkFrom is the length from which a write is worth collecting: below it there is one record at most (RFC 8446 section
// 5.1: 2^14 bytes of plaintext), which crypto/tls already sends in one system call.
const corkFrom = 16<<10 + 1

// corkUpTo is how much is collected at once: as much as a relay reads at once. Four records at a time took 0.78 s of CPU per GB of
// upload where these sixteen take 0.74 (medians of 8 interleaved rounds); they are held twice, within the budget.
const corkUpTo = bufpool.Large

// handshake makes the connection out of a raw one, which it owns: on failure it is closed.
func handshake(ctx context.Context, raw net.Conn, cfg *tls.Config, bufs *bufpool.Pool) (*Conn, error) {
	w := newWire(raw, bufs)
	tc, began := tls.Client(w, cfg), time.Now()
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		w.release()
		return nil, err
	}
	return &Conn{tls: tc, wire: w, resumed: tc.ConnectionState().DidResume, shook: time.Since(began)}, nil
}

// Wait blocks until Read would not: there is a byte, the end or an error. It holds no buffer while it blocks, and says
// nothing of what Read will say.
func (c *Conn) Wait() {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for len(c.early) == 0 {
		// A byte is asked for, not just readability: what arrives may be a session ticket.
		n, err := c.readNoWait(c.one[:])
		if n > 0 {
			c.early = c.one[:]
			return
		}
		if err != errWouldWait {
			return // crypto/tls repeats it
		}
		if c.wire.wait() != nil {
			return
		}
	}
}

// park waits, without a buffer, and keeps what arrives, until the connection was taken into use or has ended. The error
// is that of the end; what arrived before it is not worth keeping. From the moment that taken is set, another goroutine
// may read: it goes on where this one stops.
func (c *Conn) park(taken *atomic.Bool) error {
	for {
		if done, err := c.parkOnce(taken); done {
			return err
		}
	}
}

func (c *Conn) parkOnce(taken *atomic.Bool) (done bool, err error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if taken.Load() {
		return true, nil
	}
	buf := c.wire.bufs.Get(bufpool.Min)
	n, err := c.readNoWait(buf.B)
	c.early = append(c.early, buf.B[:n]...)
	c.hasEarly.Store(len(c.early) > 0)
	c.wire.bufs.Put(buf)
	switch {
	case len(c.early) > maxEarly:
		return true, errEarly
	case n > 0:
		return false, nil // an error comes again
	case err == errWouldWait:
		err = c.wire.wait()
	}
	return err != nil, err
}

// Read reads what has arrived, up to len(p) bytes, and waits only if there is nothing.
func (c *Conn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	defer c.firstRead(&n)
	for n < len(p) {
		m, err := c.readNoWait(p[n:])
		n += m
		switch {
		case err == nil:
		case err == errWouldWait:
			if n > 0 {
				return n, nil
			}
			if err := c.wire.wait(); err != nil {
				return 0, err
			}
		case n > 0:
			return n, nil // the next call tells the error again: crypto/tls remembers it
		default:
			return 0, err
		}
	}
	return n, nil
}

// onFirstRead makes f be called once, by the first Read that has bytes. It must be set before there is a reader.
func (c *Conn) onFirstRead(f func()) { c.first = f }

func (c *Conn) firstRead(n *int) {
	if *n > 0 && c.first != nil {
		c.first()
		c.first = nil
	}
}

func (c *Conn) readNoWait(p []byte) (int, error) {
	c.wire.noWait = true
	n, err := c.tls.Read(p)
	c.wire.noWait = false
	return n, err
}

// Write sends p. When it returns without an error, all of p was given to the kernel.
func (c *Conn) Write(p []byte) (int, error) {
	written := 0
	for len(p)-written >= corkFrom {
		n, err := c.writeTogether(p[written:min(len(p), written+corkUpTo)])
		if written += n; err != nil {
			return written, err
		}
	}
	if written == len(p) && written > 0 {
		return written, nil
	}
	n, err := c.tls.Write(p[written:])
	return written + n, err
}

// writeTogether sends the records of p together. What is collected counts in the buffers' budget; where that is spent,
// the records go one by one.
func (c *Conn) writeTogether(p []byte) (int, error) {
	if !c.wire.bufs.Reserve(len(p)) {
		return c.tls.Write(p)
	}
	defer c.wire.bufs.Release(len(p))
	c.collecting.Store(true)
	defer c.collecting.Store(false)
	c.wire.cork()
	n, err := c.tls.Write(p)
	if flushErr := c.wire.uncork(); err == nil && flushErr != nil {
		return 0, flushErr
	}
	return n, err
}

// CloseWrite half-closes: it sends close_notify, at which the peer reads a clean end, and may go on sending (R6). It waits for
// room as a Write does.
//
// The raw connection stays open in both directions: whatever stands between the two ends, and may have its own idea of
// half-closed connections, sees nothing of it. Both ends of the TLS connection do.
func (c *Conn) CloseWrite() error {
	// crypto/tls would give up after 5 s without room, and what was complete would be cut because its reader is slow. So
	// it only makes the record, and the wire sends it.
	c.wire.halfClosing.Store(true)
	c.wire.cork()
	err := c.tls.CloseWrite()
	if flushErr := c.wire.uncork(); err == nil {
		err = flushErr
	}
	return err
}

// Close sends close_notify, if that was not done, and closes. It waits for room to send it for 5 s at the most, and not at
// all while another goroutine is in Write: then it is a way to end that.
func (c *Conn) Close() error {
	var err error
	if c.collecting.Load() { // crypto/tls sees to small writes; this one has left it already
		err = c.wire.Conn.Close()
	} else {
		err = c.tls.Close()
	}
	c.release()
	return err
}

// Reset closes without close_notify and with a TCP reset: the peer sees that the stream was cut.
func (c *Conn) Reset() error {
	err := c.wire.reset()
	c.release()
	return err
}

// release gives the read-ahead buffer back, once a reader has noticed that the connection is closed.
func (c *Conn) release() {
	c.readMu.Lock()
	c.wire.release()
	c.readMu.Unlock()
}

// Generation tells which snapshot the connection was made with.
func (c *Conn) Generation() uint64 { return c.generation }

// Resumed reports whether the handshake resumed a session.
func (c *Conn) Resumed() bool { return c.resumed }

// SyscallConn gives the raw connection's descriptor, for looking at its state. Reading or writing it would break the
// TLS stream.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if c.wire.raw == nil {
		return nil, syscall.EINVAL
	}
	return c.wire.raw, nil
}

// LocalAddr is this side's address of the connection to the gateway.
func (c *Conn) LocalAddr() net.Addr { return c.wire.LocalAddr() }

// RemoteAddr is the gateway's address.
func (c *Conn) RemoteAddr() net.Addr { return c.wire.RemoteAddr() }

// SetDeadline bounds reads and writes.
func (c *Conn) SetDeadline(t time.Time) error { return c.wire.Conn.SetDeadline(t) }

// SetReadDeadline bounds reads, and Wait. A read that it ended may be repeated.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.wire.Conn.SetReadDeadline(t) }

// SetWriteDeadline bounds writes. After one that it ended, no other succeeds.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.wire.Conn.SetWriteDeadline(t) }
