// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"math"
	"slices"
	"time"
)

// quantile returns the value below which a share q of the sorted values lies, by linear interpolation between the two
// neighbours; NaN of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// median returns the middle of values in any order; NaN of none.
func median(values []float64) float64 {
	return quantile(slices.Sorted(slices.Values(values)), 0.5)
}

// curve returns the quantiles 0, 1 % … 100 % of values in any order, rounded to what matters.
func curve(values []float64) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	points := make([]float64, 101)
	for i := range points {
		points[i] = round(quantile(sorted, float64(i)/100))
	}
	return points
}

// round keeps four significant digits: no measurement here has more.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// ratio returns the median of the values relative to another system's of the same rounds, so that what slowed a whole
// round down does not count; relative to the other's median if their rounds do not match, NaN if there is nothing to compare.
func ratio(values, reference []float64) float64 {
	if len(values) == 0 || len(reference) == 0 {
		return math.NaN()
	}
	if len(values) != len(reference) {
		return median(values) / median(reference)
	}
	quotients := make([]float64, len(values))
	for i := range values {
		quotients[i] = values[i] / reference[i]
	}
	return median(quotients)
}

// inUnits converts durations to a unit.
func inUnits(unit time.Duration, durations []time.Duration) []float64 {
	values := make([]float64, len(durations))
	for i, d := range durations {
		values[i] = float64(d) / float64(unit)
	}
	return values
}
