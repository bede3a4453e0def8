// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/sock"
)

// conn is one connection of the function, from its accept to the end of both legs. Three goroutines work for it, no more
// than two at a time: open dials, then hands over to two calls of carry, one for each direction; the last of these to end
// calls finish. Dialling has a goroutine of its own because a handshake needs a deep stack, which would stay with the
// connection for life.
type conn struct {
	srv   *Server
	route *Route
	down  *net.TCPConn // the function's leg
	up    net.Conn     // the mesh's leg; set once by open, before established

	dialing context.Context // ends when the dial must, but for its timeout
	giveUp  context.CancelFunc
	attempt atomic.Pointer[context.CancelFunc] // ends the dial under way
	again   atomic.Bool                        // there was a thaw while it was under way

	established atomic.Bool
	killed      atomic.Pointer[Cause] // why it must end; set once
	running     atomic.Int32          // directions that have not ended

	sent     direction // function to mesh
	received direction // mesh to function
	counted  bool      // their bytes are in the server's counts; guarded by its lock

	sweep sweepState // the sweep's
}

// direction is one of a connection's two streams.
type direction struct {
	from, to    net.Conn
	back        *direction   // the other one
	moved       atomic.Int64 // bytes passed on
	ending      atomic.Bool  // its clean end is being passed on, or was
	ended       atomic.Bool  // no more bytes will move
	toldOfReset atomic.Bool  // a write was told that the leg was reset

	waited clock.Instant // the sweep's: when it was last seen to wait for its receiver

	// Written by carry before ended is set, read after.
	complete bool  // it ended by itself, and its end was passed on
	readErr  error // why it could not be read further
	writeErr error // why it could not be passed on
}

func newConn(s *Server, route *Route, down *net.TCPConn) *conn {
	c := &conn{srv: s, route: route, down: down}
	now := s.cfg.Clock.Now()
	c.sweep = sweepState{born: now, sentAt: now, receivedAt: now}
	c.dialing, c.giveUp = context.WithCancel(s.serving)
	return c
}

// kill makes the connection end, from outside its goroutines. The first cause counts.
func (c *conn) kill(cause Cause) {
	if !c.killed.CompareAndSwap(nil, &cause) {
		return
	}
	c.giveUp()
	if c.established.Load() {
		c.interrupt()
	}
}

// interrupt ends reads and writes under way on both legs.
func (c *conn) interrupt() {
	_ = c.down.SetDeadline(past)
	_ = c.up.SetDeadline(past)
}

var past = time.Unix(1, 0)

// carry moves one direction's bytes until it ends.
func (c *conn) carry(d *direction) {
	defer c.guard(func() {
		c.interrupt()
		c.end(d)
	})
	from, fromTCP := d.from.(*net.TCPConn)
	to, toTCP := d.to.(*net.TCPConn)
	if fromTCP && toTCP {
		c.splice(d, from, to)
	} else {
		c.copy(d)
	}
	c.passOn(d)
	c.end(d)
}

// copy moves bytes through pooled buffers. It sets readErr or writeErr; at the end of the stream readErr is io.EOF.
func (c *conn) copy(d *direction) {
	bufs, size := c.srv.cfg.Buffers, bufpool.Min
	src, dst := newSource(d.from), sock.NewWriter(d.to)
	for {
		buf, err := src.next(bufs, size)
		if buf == nil {
			d.readErr = err
			return
		}
		if d == &c.sent {
			c.srv.cfg.Watch.Check() // what the function sends after a thaw must not vanish in a dead path (R19)
		}
		n, err := dst.Write(buf.B)
		size = buf.Next()
		bufs.Put(buf)
		d.moved.Add(int64(n))
		if err != nil {
			d.failedWrite(err)
			return
		}
	}
}

func (d *direction) failedWrite(err error) {
	d.writeErr = err
	d.toldOfReset.Store(errors.Is(err, syscall.ECONNRESET))
}

// splice moves bytes between two sockets in the kernel. net.TCPConn.ReadFrom does it, and falls back to copying where
// the kernel cannot.
func (c *conn) splice(d *direction, from, to *net.TCPConn) {
	n, err := to.ReadFrom(from)
	d.moved.Add(n)
	switch {
	case err == nil:
		d.readErr = io.EOF
	case tcpStateOf(to).closed: // the error does not say of which side it is
		d.failedWrite(err)
	default:
		d.readErr = err
	}
}

// passOn makes the end of a direction known to the leg that it feeds. A clean end is a half-close of that leg, and the other
// direction goes on (R6). Two ends look clean and are none: one that a reset followed (R5), and one without an answer (R9).
func (c *conn) passOn(d *direction) {
	if d.readErr == io.EOF && !d.back.ending.Load() && wasReset(d.from) && c.resetWasTold(d.back) {
		d.readErr = io.ErrUnexpectedEOF
	}
	if d.readErr == io.EOF && d == &c.received && d.moved.Load() == 0 && !d.back.ending.Load() {
		d.readErr = errNoAnswer
	}
	switch {
	case d.writeErr != nil:
		// The leg is broken for writing. What it still has to say is carried on, until it ends.
	case d.readErr != io.EOF:
		// The leg that was read is gone, so that nothing can be written to it any more either: the other direction, which
		// may be waiting for bytes to write to it, has no purpose.
		_ = d.to.SetReadDeadline(past)
		_ = d.from.SetWriteDeadline(past)
	default:
		d.ending.Store(true)
		d.complete = closeWrite(d.to) == nil
	}
}

// wasReset reports whether a leg that is a socket was reset, perhaps after its clean end. A leg that is more than a socket
// knows its own end.
func wasReset(c net.Conn) bool {
	tcp, ok := c.(*net.TCPConn)
	return ok && tcpStateOf(tcp).closed
}

// resetWasTold reports whether the clean end that a read saw is none: the kernel tells a reset once, and told it to this
// direction's write. After an end of stream it tells the write EPIPE instead (tcp_reset in net/ipv4/tcp_input.c), and the end
// was a clean one. The write that was told may not have got as far as to say so.
func (c *conn) resetWasTold(d *direction) bool {
	for range 50 {
		if d.toldOfReset.Load() {
			return true
		}
		if d.ended.Load() || !sleep(c.srv.serving, time.Millisecond) {
			break
		}
	}
	return d.toldOfReset.Load()
}

// end marks a direction as ended, and the connection with the second one.
func (c *conn) end(d *direction) {
	d.ended.Store(true)
	if c.running.Add(-1) == 0 {
		c.finish()
	}
}

// finish closes both legs: each in order if all that it was to be sent was sent, with a reset if not. The function's
// comes first: it may be waiting.
func (c *conn) finish() {
	defer c.srv.remove(c)
	c.account()
	c.closeLeg(&c.received)
	c.closeLeg(&c.sent)
}

// closeLeg closes the leg that a direction feeds.
func (c *conn) closeLeg(d *direction) {
	// A reset throws away what is on its way, and so does closing a socket from which not all was read.
	if d.canFlush() && (!d.complete || d.back.readErr != io.EOF || c.srv.isClosing()) {
		c.flush(d.to)
	}
	if d.complete {
		_ = d.to.Close()
	} else {
		reset(d.to)
	}
}

// account counts how the connection ended, and logs it if that was no routine end.
func (c *conn) account() {
	c.srv.count(c)
	switch err, k := c.received.readErr, c.killed.Load(); {
	case err == errNoAnswer:
		c.failed(CauseRefused, err)
	case err != nil && err != io.EOF && !isDeadline(err):
		c.failed(CauseTruncated, err)
	case k == nil:
	case *k == CauseUnacknowledged:
		c.failed(*k, errUnacknowledged)
	default:
		c.srv.stats.ended(*k)
		c.srv.cfg.Logger.Debug("connection ended", "upstream", c.route.Name, "cause", string(*k))
	}
}

func (c *conn) failed(cause Cause, err error) {
	c.srv.stats.ended(cause)
	c.srv.report.failure(c.route.Name, cause, err)
}

// isDeadline reports whether a read was ended from here. The kernel giving up on a peer is a timeout too, and is not it.
func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// guard ends the connection instead of the function when there is a defect (R12).
func (c *conn) guard(cleanUp func()) {
	p := recover()
	if p == nil {
		return
	}
	cause := CausePanic
	c.killed.CompareAndSwap(nil, &cause)
	c.srv.report.failure(c.route.Name, cause, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	cleanUp()
}
