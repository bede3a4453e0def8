// SPDX-License-Identifier: MPL-2.0

// Package clocktest gives tests a clock that jumps: forwards or backwards, the wall clock alone or both clocks, as a
// freeze or a correction of the time would move them. It is linked into tests only.
package clocktest

import (
	"sync/atomic"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

// Skew is the system's clock, moved. The zero value is not moved. Safe for concurrent use.
type Skew struct{ wall, mono atomic.Int64 }

// Now reads the moved clock; (*Skew).Now is a clock.Clock.
func (s *Skew) Now() clock.Instant {
	now := clock.Clock(nil).Now()
	return clock.At(now.Wall().Add(time.Duration(s.wall.Load())), now.Mono()+time.Duration(s.mono.Load()))
}

// JumpWall moves the wall clock alone: a freeze in which the monotonic clock stood still, or a corrected time.
func (s *Skew) JumpWall(d time.Duration) { s.wall.Add(int64(d)) }

// JumpMono moves the monotonic clock alone: the wall clock was set back to where it stood.
func (s *Skew) JumpMono(d time.Duration) { s.mono.Add(int64(d)) }

// Jump moves both clocks: a freeze that both of them counted.
func (s *Skew) Jump(d time.Duration) {
	s.wall.Add(int64(d))
	s.mono.Add(int64(d))
}
