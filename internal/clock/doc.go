// SPDX-License-Identifier: MPL-2.0

// Package clock judges elapsed time in a process that may be frozen.
//
// Lambda stops a sandbox between two invocations for as long as it likes. Which of the two clocks goes on meanwhile is
// not documented: reports exist of timers that did not advance, and of deadlines that had passed at the thaw. So every
// age is the larger of the two readings (rule R14), taken at the moment of use:
//
//	started := clk.Now()
//	…
//	if clk.Now().Sub(started) > limit { … }
//
// A [Watch] notices a freeze after it happened, by the gap between two readings.
//
// The package holds no timers of its own but the watch's tick, and never sets a clock.
package clock
