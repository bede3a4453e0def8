// SPDX-License-Identifier: MPL-2.0

package proxy

import "time"

// SetAckTimeout shortens ackTimeout, which is counted in time that really passes. Before the first connection.
func (s *Server) SetAckTimeout(d time.Duration) { s.ackTimeout = d }

// Progress is the sum of what all open connections have moved.
func (s *Server) Progress() (n uint64) {
	for _, c := range s.connections() {
		if c.established.Load() {
			n += c.sent.progress() + c.received.progress()
		}
	}
	return n
}

// Still is in how many looks in a row nothing has moved.
func (s *Server) Still() int {
	s.sweepMu.Lock()
	defer s.sweepMu.Unlock()
	return s.still
}

// Sweep looks at all connections now.
func (s *Server) Sweep() { s.look(false) }

// Failing reports whether a connection is open of which both directions have ended, or that there is none any more.
func (s *Server) Failing() bool {
	for _, c := range s.connections() {
		if !c.established.Load() || c.running.Load() > 0 {
			return false
		}
	}
	return s.stats.accepted.Load() > 0
}

// Thaw lets the watch notice what the clock says.
func (s *Server) Thaw() { s.cfg.Watch.Check() }

// Blocked reports whether a connection is open of which one direction waits for its receiver.
func (s *Server) Blocked() bool {
	for _, c := range s.connections() {
		if c.established.Load() && (c.sent.blocked() || c.received.blocked()) {
			return true
		}
	}
	return false
}
