// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestAQuantileLiesBetweenItsNeighbours(t *testing.T) {
	for _, c := range []struct {
		q    float64
		want float64
	}{{0, 1}, {0.25, 2}, {0.5, 3}, {0.9, 4.6}, {1, 5}} {
		if got := quantile([]float64{1, 2, 3, 4, 5}, c.q); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("quantile %v is %v, want %v", c.q, got, c.want)
		}
	}
	if got := quantile([]float64{7}, 0.99); got != 7 {
		t.Errorf("a quantile of one value is %v", got)
	}
	if !math.IsNaN(quantile(nil, 0.5)) || !math.IsNaN(median(nil)) {
		t.Error("a quantile of nothing is a number")
	}
}

func TestAMedianDoesNotChangeWhatItIsOf(t *testing.T) {
	values := []float64{3, 1, 2, 10}
	if got := median(values); got != 2.5 {
		t.Errorf("median is %v, want 2.5", got)
	}
	if !slices.Equal(values, []float64{3, 1, 2, 10}) {
		t.Errorf("the values became %v", values)
	}
}

// A round that was slow for all does not count: the ratio is the median of the rounds' ratios, not of the medians.
func TestARatioPairsRounds(t *testing.T) {
	if got := ratio([]float64{1, 1, 50}, []float64{2, 2, 100}); got != 0.5 {
		t.Errorf("ratio is %v, want 0.5", got)
	}
	if got := ratio([]float64{1, 3}, []float64{4}); got != 0.5 {
		t.Errorf("without pairs the ratio is %v, want 0.5", got)
	}
	if !math.IsNaN(ratio(nil, []float64{1})) || !math.IsNaN(ratio([]float64{1}, nil)) {
		t.Error("a ratio to nothing is a number")
	}
}

func TestRoundingKeepsFourDigits(t *testing.T) {
	for v, want := range map[float64]float64{0: 0, 123456: 123500, 0.00123456: 0.001235, -9.87654: -9.877, 1: 1} {
		if got := round(v); math.Abs(got-want) > 1e-12 {
			t.Errorf("%v becomes %v, want %v", v, got, want)
		}
	}
}

func TestACurveRisesFromLeastToMost(t *testing.T) {
	c := curve([]float64{5, 1, 3})
	if len(c) != 101 || c[0] != 1 || c[100] != 5 || !slices.IsSorted(c) {
		t.Errorf("the curve is %v", c)
	}
}

func TestAP99IsThatOfAllRoundsTogether(t *testing.T) {
	c := collector{result: &Result{Systems: []SystemInfo{{Name: "a"}}}, pools: make(map[[2]string]*pool)}
	fast := slices.Repeat([]time.Duration{time.Millisecond}, 50)
	c.latencies("pingpong", "a", time.Millisecond, fast)
	c.latencies("pingpong", "a", time.Millisecond, append(slices.Clone(fast), 9*time.Millisecond, 9*time.Millisecond))
	c.finish()
	if got, _ := c.result.cell("pingpong", "a", p50); got.Value != 1 || len(got.Rounds) != 2 {
		t.Errorf("p50 is %+v", got)
	}
	if got, _ := c.result.cell("pingpong", "a", p99); got.Value < 1 || got.Value > 9 || got.Value == got.Rounds[0] {
		t.Errorf("p99 is %+v", got)
	}
	if len(c.result.Curves) != 1 || c.result.Curves[0].Count != 102 {
		t.Errorf("the curves are %+v", c.result.Curves)
	}
}

func TestNumbersShowThreeDigits(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{{0.12345, "ms", "0.123 ms"}, {12.345, "", "12.3"}, {123.4, "", "123"}, {12345.6, "1/s", "12346 1/s"}, {0, "s", "0 s"}, {math.NaN(), "s", "–"}, {0.000012, "", "0.0000"}} {
		if got := number(c.v, c.unit); got != c.want {
			t.Errorf("%v is written %q, want %q", c.v, got, c.want)
		}
	}
}
