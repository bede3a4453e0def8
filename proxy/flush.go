// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"io"
	"net"
	"time"
)

const (
	// killedPatience is how long the peer of a connection that was ended from here has to take what was sent before.
	killedPatience = time.Second

	// maxFlushPause is how often, at the least, the send queue is looked at.
	maxFlushPause = 50 * time.Millisecond
)

// canFlush reports whether the leg that the direction feeds may still take bytes: nothing that was done with it failed.
func (d *direction) canFlush() bool {
	read := d.back.readErr
	return d.writeErr == nil && (read == nil || read == io.EOF || isDeadline(read))
}

// flush waits until the leg's peer has what was written to it (R5, R16). It gives up when the peer took nothing for a
// while.
func (c *conn) flush(leg net.Conn) {
	patience := halfCloseTimeout
	if c.killed.Load() != nil {
		patience = killedPatience
	}
	since, left := c.srv.cfg.Clock.Now(), sendQueue(leg)
	for pause := time.Millisecond; left > 0; pause = min(2*pause, maxFlushPause) {
		if !sleep(c.srv.serving, pause) {
			return
		}
		now := c.srv.cfg.Clock.Now()
		if n := sendQueue(leg); n != left {
			left, since = n, now
		} else if now.Sub(since) >= patience {
			return
		}
	}
}

// sleep returns true after d, or false as soon as ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
