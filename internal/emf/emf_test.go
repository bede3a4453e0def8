// SPDX-License-Identifier: MPL-2.0

package emf_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/consul-lambda/consul-lambda/internal/emf"
	"github.com/consul-lambda/consul-lambda/internal/emf/emftest"
)

func record() emf.Record {
	return emf.Record{
		Namespace:  "ConsulLambda/Test",
		At:         time.UnixMilli(1_700_000_000_123),
		Dimensions: []emf.Dimension{{Name: "FunctionName", Value: "check\"out"}},
		Metrics: []emf.Metric{
			{Name: "Connections", Unit: emf.Count, Values: []float64{3}},
			{Name: "DialMilliseconds", Unit: emf.Milliseconds, Values: []float64{0.25, 1e9, 0}},
			{Name: "Nothing", Unit: emf.Bytes},
			{Name: "Plain", Values: []float64{-1}},
		},
	}
}

func TestALineIsWhatTheSpecificationDescribes(t *testing.T) {
	line, err := record().Line()
	if err != nil {
		t.Fatal(err)
	}
	text, ended := strings.CutSuffix(string(line), "\n")
	if !ended || strings.Contains(text, "\n") || !emftest.IsOne(text) {
		t.Fatalf("not one line: %q", line)
	}
	got, err := emftest.Parse(text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	want := emftest.Line{
		Namespace:  "ConsulLambda/Test",
		At:         time.UnixMilli(1_700_000_000_123),
		Dimensions: map[string]string{"FunctionName": "check\"out"},
		Metrics:    map[string][]float64{"Connections": {3}, "DialMilliseconds": {0.25, 1e9, 0}, "Plain": {-1}},
		Units:      map[string]string{"Connections": "Count", "DialMilliseconds": "Milliseconds", "Plain": ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What CloudWatch would drop without a word is an error here.
func TestWhatCloudWatchWouldDropIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*emf.Record){
		"no namespace":             func(r *emf.Record) { r.Namespace = "" },
		"a namespace of AWS":       func(r *emf.Record) { r.Namespace = "AWS/Lambda" },
		"a namespace too long":     func(r *emf.Record) { r.Namespace = strings.Repeat("n", 256) },
		"no metric":                func(r *emf.Record) { r.Metrics = nil },
		"no value":                 func(r *emf.Record) { r.Metrics = []emf.Metric{{Name: "A"}} },
		"101 metrics":              func(r *emf.Record) { r.Metrics = metrics(101) },
		"101 values":               func(r *emf.Record) { r.Metrics[0].Values = make([]float64, 101) },
		"a value that is no value": func(r *emf.Record) { r.Metrics[0].Values = []float64{math.NaN()} },
		"an infinite value":        func(r *emf.Record) { r.Metrics[0].Values = []float64{math.Inf(-1)} },
		"a value too large":        func(r *emf.Record) { r.Metrics[0].Values = []float64{math.Ldexp(1, 361)} },
		"a metric without a name":  func(r *emf.Record) { r.Metrics[0].Name = "" },
		"a name too long":          func(r *emf.Record) { r.Metrics[0].Name = strings.Repeat("n", 256) },
		"the reserved name":        func(r *emf.Record) { r.Metrics[0].Name = "_aws" },
		"a name twice":             func(r *emf.Record) { r.Metrics[1].Name = "Connections" },
		"a name of a dimension":    func(r *emf.Record) { r.Metrics[1].Name = "FunctionName" },
		"an empty dimension":       func(r *emf.Record) { r.Dimensions[0].Value = "" },
		"a dimension too long":     func(r *emf.Record) { r.Dimensions[0].Value = strings.Repeat("d", 1025) },
		"31 dimensions": func(r *emf.Record) {
			for i := range 30 {
				r.Dimensions = append(r.Dimensions, emf.Dimension{Name: "d" + strings.Repeat("i", i), Value: "v"})
			}
		},
		"a line too long": func(r *emf.Record) {
			r.Metrics = metrics(100)
			for i := range r.Metrics {
				r.Metrics[i].Values = slices.Repeat([]float64{1.0 / 3e100}, 100)
				r.Metrics[i].Name += strings.Repeat("n", 200)
			}
			r.Metrics = append(r.Metrics[:99], emf.Metric{Name: "z", Values: slices.Repeat([]float64{-math.MaxFloat64 / 1e250}, 100)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := record()
			spoil(&r)
			if line, err := r.Line(); !errors.Is(err, emf.ErrInvalid) {
				t.Errorf("%d bytes, error %v, want ErrInvalid", len(line), err)
			}
		})
	}
}

// All that is allowed at once.
func TestTheLimitsThemselvesAreAllowed(t *testing.T) {
	r := record()
	r.Metrics = metrics(100)
	r.Metrics[0].Values = slices.Repeat([]float64{math.Ldexp(-1, 360)}, 100)
	line, err := r.Line()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := emftest.Parse(strings.TrimSuffix(string(line), "\n")); err != nil {
		t.Error(err)
	}
}

func metrics(n int) []emf.Metric {
	m := make([]emf.Metric, n)
	for i := range m {
		m[i] = emf.Metric{Name: "m" + strings.Repeat("i", i), Values: []float64{1}}
	}
	return m
}

// The check itself must see what is wrong.
func TestTheCheckRefusesWhatTheSpecificationForbids(t *testing.T) {
	const good = `{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"N","Dimensions":[["D"]],"Metrics":[{"Name":"M","Unit":"Count"}]}]},"D":"d","M":1}`
	if _, err := emftest.Parse(good); err != nil {
		t.Fatal(err)
	}
	for old, bad := range map[string]string{
		`"Timestamp":1,`: ``, `"Namespace":"N"`: `"Namespace":""`, `[["D"]]`: `[]`, `"D":"d"`: `"D":7`, `,"M":1`: ``, `"M":1`: `"M":"1"`,
		`"M":1}`: `"M":{"Values":[1],"Counts":[1]}}`, `:1}`: `:[]}`, `"Unit":"Count"`: `"Unit":"Things"`, `"D":"d",`: `"D":"d","X":1,`,
		`"Count"}`: `"Count"},{"Name":"M"}`, `1}`: `null}`,
	} {
		line := strings.Replace(good, old, bad, 1)
		if old == `:1}` || old == `1}` {
			line = strings.TrimSuffix(good, old) + bad
		}
		if _, err := emftest.Parse(line); err == nil {
			t.Errorf("taken: %s", line)
		}
	}
	if _, err := emftest.Parse(good + good); err == nil {
		t.Error("taken: two in a line")
	}
}

func TestAHistogramGivesBackWhatWasObserved(t *testing.T) {
	var h emf.Histogram
	if v := h.Drain(); v != nil {
		t.Errorf("empty: %v", v)
	}
	observed := []time.Duration{-time.Second, 0, 5 * time.Microsecond, 999 * time.Microsecond, 3 * time.Millisecond, time.Second, 100 * time.Second}
	for _, d := range observed {
		h.Observe(d)
	}
	values := h.Drain()
	if len(values) != len(observed) {
		t.Fatalf("%d values of %d", len(values), len(observed))
	}
	for i, d := range observed {
		near(t, values[i], max(0, d))
	}
	if v := h.Drain(); v != nil {
		t.Errorf("drained twice: %v", v)
	}
	h.Observe(math.MaxInt64)
	if v := h.Drain(); len(v) != 1 || v[0] < 120_000 {
		t.Errorf("the longest duration is %v ms", v)
	}
}

// Every duration up to the last bucket is within a sixteenth of what is said.
func TestABucketIsNearToAllThatItHolds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var h emf.Histogram
	for range 20_000 {
		d := time.Duration(rnd.Int64N(1 << (10 + rnd.IntN(27)))) // up to 69 s
		h.Observe(d)
		near(t, h.Drain()[0], d)
	}
}

func near(t *testing.T, ms float64, d time.Duration) {
	t.Helper()
	want := float64(d.Microseconds()) / 1000
	if math.Abs(ms-want) > want/16+0.0005 {
		t.Errorf("%v ms for %v", ms, d)
	}
}

func TestMoreThanAHundredValuesBecomeAHundredThatAreSpreadAlike(t *testing.T) {
	var h emf.Histogram
	var observed []time.Duration
	for i := range 10_000 {
		d := time.Millisecond + time.Duration(i)*time.Microsecond
		observed = append(observed, d)
		h.Observe(d)
	}
	values := h.Drain()
	if len(values) != emf.MaxValues || !slices.IsSorted(values) {
		t.Fatalf("%d values, sorted: %v", len(values), slices.IsSorted(values))
	}
	near(t, values[0], observed[0])
	near(t, values[99], observed[9_999])
	for _, p := range []int{10, 50, 90} {
		near(t, values[p], observed[p*101])
	}
}

func TestAHistogramIsForManyAtATime(t *testing.T) {
	var h emf.Histogram
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 9 {
				h.Observe(time.Millisecond)
			}
		})
	}
	all.Wait()
	if n := len(h.Drain()); n != 90 {
		t.Errorf("%d values, want 90", n)
	}
}

func TestObservingAllocatesNothing(t *testing.T) {
	var h emf.Histogram
	if n := testing.AllocsPerRun(1000, func() { h.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// What an observation costs a connection, and a line the process. It does not see contention between CPUs.
func BenchmarkHistogram(b *testing.B) {
	b.Run("op=observe", func(b *testing.B) {
		var h emf.Histogram
		b.ReportAllocs()
		for b.Loop() {
			h.Observe(1234 * time.Microsecond)
		}
	})
	b.Run("op=line", func(b *testing.B) {
		var h emf.Histogram
		b.ReportAllocs()
		for b.Loop() {
			for i := range 200 {
				h.Observe(time.Duration(i) * time.Millisecond)
			}
			r := record()
			r.Metrics[2].Values = h.Drain()
			if _, err := r.Line(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
