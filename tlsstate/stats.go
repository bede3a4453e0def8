// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"sync/atomic"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

// Stats are counts since the state was made.
type Stats struct {
	Handshakes int64 // that succeeded, spare connections' included
	Resumed    int64 // of these, those that resumed a session
	Failures   int64 // dials that failed
	Spares     int64 // connections that needed no handshake when they were asked for

	RefreshFailures int64         // reads of the document that failed, or gave none that is of use
	RefreshAge      time.Duration // how long ago the last one that succeeded was begun; negative if none has
}

// Stats reads the counts.
func (s *State) Stats() Stats {
	st := Stats{
		Handshakes: s.stats.handshakes.Load(), Resumed: s.stats.resumed.Load(), Failures: s.stats.failures.Load(), Spares: s.stats.spares.Load(),
		RefreshFailures: s.stats.refreshFailures.Load(), RefreshAge: -1,
	}
	if at := s.stats.refreshed.Load(); at != nil {
		st.RefreshAge = s.settings.clock.Now().Sub(*at)
	}
	return st
}

// counters are what Stats reads.
type counters struct {
	handshakes, resumed, failures, spares, refreshFailures atomic.Int64
	refreshed                                              atomic.Pointer[clock.Instant]
}
