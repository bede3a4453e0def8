// SPDX-License-Identifier: MPL-2.0

package apicall

import (
	"math"

	"golang.org/x/time/rate"
)

// PerSecond returns a limiter that admits so many calls a second, and a second's worth at once. It is nil, for no limit, if n is
// negative; n must not be 0.
func PerSecond(n float64) *rate.Limiter {
	if n < 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(n), int(math.Ceil(n)))
}
