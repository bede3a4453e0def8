// SPDX-License-Identifier: MPL-2.0

// Package emftest reads lines of the embedded metric format as strictly as the specification is written, for tests. It shares no code
// with package emf: one checks the other.
//
// The rules are those of
// docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
package emftest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"
)

// Line is what CloudWatch would make of a line.
type Line struct {
	Namespace  string
	At         time.Time
	Dimensions map[string]string
	Metrics    map[string][]float64
	Units      map[string]string
}

// Sum returns the sum of a metric's values, 0 if it is not there.
func (l Line) Sum(metric string) (sum float64) {
	for _, v := range l.Metrics[metric] {
		sum += v
	}
	return sum
}

// IsOne says whether a line of a log is meant to be one of these: it has the member "_aws".
func IsOne(line string) bool {
	var root struct {
		AWS json.RawMessage `json:"_aws"`
	}
	return json.Unmarshal([]byte(line), &root) == nil && root.AWS != nil
}

// units is the schema's pattern.
var units = regexp.MustCompile(`^(Seconds|Microseconds|Milliseconds|(Bytes|Kilobytes|Megabytes|Gigabytes|Terabytes|Bits|Kilobits|Megabits|Gigabits|Terabits|Count)(/Second)?|Percent|None)$`)

// Parse reads one line, without its end. Every violation of the specification is an error.
func Parse(line string) (Line, error) {
	var root map[string]json.RawMessage
	if err := strict(line, &root); err != nil {
		return Line{}, fmt.Errorf("root node: %w", err)
	}
	if len(line) > 256<<10 {
		return Line{}, fmt.Errorf("%d bytes, more than 256 KiB", len(line))
	}
	var meta struct {
		Timestamp         *int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	}
	if err := strict(string(root["_aws"]), &meta); err != nil {
		return Line{}, fmt.Errorf("_aws: %w", err)
	}
	if meta.Timestamp == nil || len(meta.CloudWatchMetrics) != 1 {
		return Line{}, errors.New("_aws: want a Timestamp and one MetricDirective, as we use no more")
	}
	directive := meta.CloudWatchMetrics[0]
	l := Line{
		Namespace: directive.Namespace, At: time.UnixMilli(*meta.Timestamp),
		Dimensions: map[string]string{}, Metrics: map[string][]float64{}, Units: map[string]string{},
	}
	if n := len(directive.Namespace); n < 1 || n > 255 {
		return l, fmt.Errorf("namespace of %d bytes", n)
	}
	if len(directive.Dimensions) != 1 || len(directive.Dimensions[0]) > 30 {
		return l, fmt.Errorf("dimensions %q: want one set of up to 30, as each further set doubles the price", directive.Dimensions)
	}
	for _, name := range directive.Dimensions[0] {
		var value string
		if err := json.Unmarshal(root[name], &value); err != nil || value == "" || len(value) > 1024 || len(name) > 255 {
			return l, fmt.Errorf("dimension %q is %s: want a string", name, root[name])
		}
		l.Dimensions[name] = value
	}
	if n := len(directive.Metrics); n < 1 || n > 100 {
		return l, fmt.Errorf("%d metrics", n)
	}
	for _, m := range directive.Metrics {
		values, err := target(root[m.Name])
		switch {
		case err != nil:
			return l, fmt.Errorf("metric %q: %w", m.Name, err)
		case len(m.Name) < 1 || len(m.Name) > 255 || l.Metrics[m.Name] != nil || l.Dimensions[m.Name] != "":
			return l, fmt.Errorf("metric %q: name empty, too long or used twice", m.Name)
		case m.Unit != "" && !units.MatchString(m.Unit):
			return l, fmt.Errorf("metric %q: unit %q", m.Name, m.Unit)
		}
		l.Metrics[m.Name], l.Units[m.Name] = values, m.Unit
	}
	for name := range root {
		if name != "_aws" && l.Metrics[name] == nil && l.Dimensions[name] == "" {
			return l, fmt.Errorf("member %q is neither a metric nor a dimension: allowed, but paid for and of no use", name)
		}
	}
	return l, nil
}

// target reads a metric's target: a number, or an array of one to a hundred.
func target(data json.RawMessage) ([]float64, error) {
	var values []float64
	if bytes.HasPrefix(data, []byte("[")) {
		if err := json.Unmarshal(data, &values); err != nil {
			return nil, err
		}
	} else {
		var value *float64
		if err := json.Unmarshal(data, &value); err != nil {
			return nil, err
		}
		if value == nil {
			return nil, errors.New("null")
		}
		values = []float64{*value}
	}
	if len(values) < 1 || len(values) > 100 {
		return nil, fmt.Errorf("%d values", len(values))
	}
	if slices.ContainsFunc(values, func(v float64) bool { return math.Abs(v) > math.Ldexp(1, 360) }) {
		return nil, errors.New("a value that is too large")
	}
	return values, nil
}

// strict decodes one JSON value, with nothing after it, no unknown member, and names in their exact case.
func strict(data string, into any) error {
	d := json.NewDecoder(bytes.NewBufferString(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows")
	}
	return nil
}
