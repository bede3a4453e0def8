// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats are counts since the server was made.
type Stats struct {
	Accepted int64           // connections
	Open     int             // connections at this moment
	Sent     int64           // bytes to upstreams, open connections' included; what is spliced counts when its direction ends
	Received int64           // bytes from upstreams, likewise
	Ended    map[Cause]int64 // connections that did not end by themselves, by cause; nil if there was none. The caller's
}

// Stats reads the counts. It takes a lock that accepting needs, and looks at every open connection.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock() // no connection is counted twice, or not at all
	st := s.stats.read(len(s.conns))
	for c := range s.conns {
		if c.established.Load() && !c.counted {
			st.Sent += c.sent.moved.Load()
			st.Received += c.received.moved.Load()
		}
	}
	return st
}

// count adds a connection's bytes to the counts, when no more will move on it.
func (s *Server) count(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.counted = true
	s.stats.sent.Add(c.sent.moved.Load())
	s.stats.received.Add(c.received.moved.Load())
}

// counters are what Stats reads.
type counters struct {
	accepted, sent, received atomic.Int64

	mu     sync.Mutex
	causes map[Cause]int64
}

func (c *counters) ended(cause Cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.causes == nil {
		c.causes = make(map[Cause]int64)
	}
	c.causes[cause]++
}

func (c *counters) read(open int) Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Accepted: c.accepted.Load(), Open: open, Sent: c.sent.Load(), Received: c.received.Load(), Ended: maps.Clone(c.causes)}
}
