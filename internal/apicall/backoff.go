// SPDX-License-Identifier: MPL-2.0

package apicall

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the pause before the next try of a call. It is for one call, in one goroutine; the zero value does not pause.
type Backoff struct {
	Next time.Duration // the longest that the next pause takes
	Most time.Duration // up to which Next doubles with each pause
}

// Wait pauses for between half and all of Next, so that many who were refused together do not come back together. It returns false, at
// once, if the context has ended, or would before the pause does: the error of the last try says more than that of the context.
func (b *Backoff) Wait(ctx context.Context) bool {
	d := b.Next/2 + rand.N(b.Next/2+1)
	b.Next = min(2*b.Next, b.Most)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
