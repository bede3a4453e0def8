// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"net"
)

// open dials, and starts to relay.
func (c *conn) open() {
	defer c.guard(func() { c.refuse(nil) })
	up, err := c.dial()
	c.giveUp()
	if err != nil {
		c.refuse(err)
		return
	}
	c.up = up
	c.sent = direction{from: c.down, to: up, back: &c.received}
	c.received = direction{from: up, to: c.down, back: &c.sent}
	c.running.Store(2)
	c.established.Store(true)
	if c.killed.Load() != nil {
		c.interrupt() // it was to end while it was being dialled, and nobody could tell its legs
	}
	go c.carry(&c.sent)
	go c.carry(&c.received)
}

// dial dials, and once more if there was a thaw meanwhile: what it was waiting for has likely gone, and so has its time (R14).
func (c *conn) dial() (net.Conn, error) {
	for {
		ctx, cancel := context.WithTimeout(c.dialing, c.srv.cfg.DialTimeout)
		c.attempt.Store(&cancel)
		up, err := c.route.Dial(ctx)
		cancel()
		if err == nil {
			return up, nil
		}
		c.srv.cfg.Watch.Check() // the timeout may have noticed the thaw first
		if !c.again.Swap(false) || c.dialing.Err() != nil {
			return nil, err
		}
	}
}

// redial makes the dial under way begin again.
func (c *conn) redial() {
	c.again.Store(true)
	if cancel := c.attempt.Load(); cancel != nil {
		(*cancel)()
	}
}

// refuse ends a connection that never had an upstream: with a reset, so that nobody takes it for an empty answer (R9).
func (c *conn) refuse(err error) {
	defer c.srv.remove(c)
	c.giveUp()
	cause := CauseDial
	if k := c.killed.Load(); k != nil {
		cause = *k
	}
	c.srv.stats.ended(cause)
	if err != nil && cause != CauseShutdown {
		c.srv.report.failure(c.route.Name, cause, err)
	}
	reset(c.down)
}
