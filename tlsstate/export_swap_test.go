// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"sync/atomic"
)

// HasSpareFor reports whether a dial of that generation would be given a spare. It takes the spare if so.
func (s *State) HasSpareFor(upstream int, generation uint64) bool {
	conn := s.spares[upstream].take(generation)
	if conn == nil {
		return false
	}
	_ = conn.Reset()
	return true
}

// IsDialling reports whether a spare is being dialled.
func (s *State) IsDialling(upstream int) bool {
	p := s.spares[upstream]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending != nil
}

// BreakSpares makes the dials of spares panic, and counts them, until mend is called. None may be under way.
func (s *State) BreakSpares(upstream int) (panics *atomic.Int32, mend func()) {
	p := s.spares[upstream]
	panics = new(atomic.Int32)
	var mended atomic.Bool
	p.mu.Lock()
	defer p.mu.Unlock()
	dial := p.dial
	p.dial = func(ctx context.Context) (*Conn, error) {
		if mended.Load() {
			return dial(ctx)
		}
		panics.Add(1)
		panic("a defect")
	}
	return panics, func() { mended.Store(true) }
}
