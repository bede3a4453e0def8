// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"fmt"
	"io"
	"time"
)

// progress says what is going on, how far it is and how long it will take yet. A line costs the machine a little, so
// that there are few: at each new step, and when one takes long.
type progress struct {
	out     io.Writer
	began   time.Time
	planned time.Duration // for everything
	done    time.Duration // of planned
	said    time.Time     // when the last line was written
}

// quiet is how long nothing is said at the most between two systems of a step.
const quiet = 5 * time.Second

// still says what is going on if nothing was said for a while.
func (p *progress) still(format string, args ...any) {
	if time.Since(p.said) >= quiet {
		p.step(format, args...)
	}
}

// step says what begins now.
func (p *progress) step(format string, args ...any) {
	p.said = time.Now()
	share := 0.0
	if p.planned > 0 {
		share = min(1, float64(p.done)/float64(p.planned))
	}
	_, _ = fmt.Fprintf(p.out, "%3.0f %%  %-64s %s left\n", 100*share, fmt.Sprintf(format, args...), p.left().Round(time.Second))
}

// left estimates from the plan, corrected by how it went so far.
func (p *progress) left() time.Duration {
	left := max(0, p.planned-p.done)
	if p.done > 5*time.Second {
		left = time.Duration(float64(left) * float64(time.Since(p.began)) / float64(p.done))
	}
	return left
}

func (p *progress) note(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, "       "+format+"\n", args...)
}
