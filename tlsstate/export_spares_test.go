// SPDX-License-Identifier: MPL-2.0

package tlsstate

// Resting reports whether an upstream has no spare, and none is being dialled or due: there will be none until the function connects.
func (s *State) Resting(upstream int) bool {
	p := s.spares[upstream]
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready) == 0 && p.pending == nil && p.armed == nil
}

// HasSpare reports whether a spare connection to the upstream could be handed out now.
func (s *State) HasSpare(upstream int) bool {
	p := s.spares[upstream]
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, sp := range p.ready {
		if sp.conn.wire.quiet() && p.clock.Now().Sub(sp.since) < p.maxIdle {
			return true
		}
	}
	return false
}
