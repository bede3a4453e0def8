// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"net"
	"time"
)

// delayedConn is the server's side of a connection over a long way: what arrives is read late, what is written leaves
// late, each by the same time. It is a line, not a pause: pieces sent together arrive together. The end of the stream takes as
// long as a byte. Deadlines have no effect. One goroutine reads, one writes and closes.
type delayedConn struct {
	net.Conn
	late time.Duration

	in      chan piece
	rest    []byte
	readErr error
	arrival *timer

	out       chan piece
	departure *timer
	closed    bool
	gone      chan struct{} // closed when nothing leaves any more
}

// piece is some bytes under way, or the end of the stream if there are none.
type piece struct {
	b   []byte
	due time.Time
	err error // of the read that came upon the end
}

// pieces bounds what is under way in one direction; past it the sender waits.
const pieces = 1024

// delay makes a delayedConn, which owns the raw connection.
func delay(raw net.Conn, late time.Duration) (*delayedConn, error) {
	arrival, err := newTimer()
	if err != nil {
		return nil, err
	}
	departure, err := newTimer()
	if err != nil {
		arrival.close()
		return nil, err
	}
	c := &delayedConn{
		Conn: raw, late: late, arrival: arrival, departure: departure,
		in: make(chan piece, pieces), out: make(chan piece, pieces), gone: make(chan struct{}),
	}
	go c.receive()
	go c.send()
	return c, nil
}

// receive notes when each piece came. It ends when the raw connection does. Owner: Close, by way of send.
func (c *delayedConn) receive() {
	for {
		b := make([]byte, 32<<10)
		n, err := c.Conn.Read(b)
		due := time.Now().Add(c.late)
		for _, p := range []piece{{b: b[:n], due: due}, {err: err, due: due}} {
			if len(p.b) == 0 && p.err == nil {
				continue
			}
			select {
			case c.in <- p:
			case <-c.gone:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// send writes what is due until it is to close. Owner: Close.
func (c *delayedConn) send() {
	defer close(c.gone)
	defer c.departure.close()
	defer c.Conn.Close()
	for p := range c.out {
		c.departure.until(p.due)
		if p.b == nil {
			return
		}
		_, _ = c.Conn.Write(p.b) // who writes to a broken connection learns it by reading
	}
}

// Read returns what has arrived.
func (c *delayedConn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.readErr != nil {
			return 0, c.readErr
		}
		p := <-c.in
		c.arrival.until(p.due)
		c.rest, c.readErr = p.b, p.err
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write returns at once, unless too much is under way.
func (c *delayedConn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.out <- piece{b: append([]byte(nil), b...), due: time.Now().Add(c.late)}
	return len(b), nil
}

// Close closes once all that was written has left.
func (c *delayedConn) Close() error {
	if !c.closed {
		c.closed = true
		c.out <- piece{due: time.Now().Add(c.late)}
		c.arrival.close()
	}
	return nil
}

// SetDeadline and its kin do nothing: crypto/tls sets one after close_notify, which would stop what is still under way.
func (c *delayedConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c *delayedConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c *delayedConn) SetWriteDeadline(time.Time) error { return nil }
