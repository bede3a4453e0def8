// SPDX-License-Identifier: MPL-2.0

package emf

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// What the specification allows.
const (
	MaxValues = 100 // of one metric in one record

	maxMetrics        = 100 // in one record
	maxDimensions     = 30
	maxName           = 255       // bytes, of a namespace, a dimension or a metric
	maxDimensionValue = 1024      // bytes: docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
	maxLine           = 256 << 10 // of an event in CloudWatch Logs, and of a line that Lambda takes
)

// maxValue is the largest that CloudWatch takes, of either sign: docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
var maxValue = math.Ldexp(1, 360)

// ErrInvalid is that CloudWatch would drop the record, or a part of it.
var ErrInvalid = errors.New("emf: invalid record")

// Unit is what a metric counts in. The zero value is none.
type Unit string

// The units that we use; CloudWatch has more.
const (
	Count        Unit = "Count"
	Bytes        Unit = "Bytes"
	Seconds      Unit = "Seconds"
	Milliseconds Unit = "Milliseconds"
)

// Record is what one line says. The zero value is not valid.
type Record struct {
	Namespace  string      // 1 to 255 bytes; not one of AWS's own, which begin with "AWS/"
	At         time.Time   // when it was so; CloudWatch keeps milliseconds, and takes up to two weeks ago
	Dimensions []Dimension // up to 30; none is one metric for the whole namespace
	Metrics    []Metric    // up to 100 that have a value, and at least one; those without are left out
}

// Dimension is a part of the identity of every metric in a record: a name of 1 to 255 bytes, and a value of up to 1,024 that are not
// all space.
type Dimension struct{ Name, Value string }

// Metric is one measurement, or up to MaxValues of them.
type Metric struct {
	Name   string // 1 to 255 bytes; no other metric or dimension of its record has it
	Unit   Unit
	Values []float64 // in Unit; finite, and up to 2^360
}

// The members of a line, as the specification names them.
type (
	metadata struct {
		Timestamp         int64
		CloudWatchMetrics []directive
	}
	directive struct {
		Namespace  string
		Dimensions [][]string
		Metrics    []definition
	}
	definition struct {
		Name string
		Unit Unit `json:",omitempty"`
	}
)

// Line returns the record as one line of JSON, with its end. The error wraps ErrInvalid and names all that CloudWatch would not take.
func (r Record) Line() ([]byte, error) {
	d := directive{Namespace: r.Namespace, Dimensions: [][]string{{}}, Metrics: []definition{}}
	root := make(map[string]any, 1+len(r.Dimensions)+len(r.Metrics))
	var errs []error
	if r.Namespace == "" || len(r.Namespace) > maxName || strings.HasPrefix(r.Namespace, "AWS/") {
		errs = append(errs, fmt.Errorf("%w: namespace %q", ErrInvalid, r.Namespace))
	}
	add := func(name string, value any) {
		if _, taken := root[name]; taken || name == "" || len(name) > maxName || name == "_aws" {
			errs = append(errs, fmt.Errorf("%w: a member cannot be called %q, or not two of them", ErrInvalid, name))
			return
		}
		root[name] = value
	}
	for _, dim := range r.Dimensions {
		add(dim.Name, dim.Value)
		d.Dimensions[0] = append(d.Dimensions[0], dim.Name)
		if strings.TrimSpace(dim.Value) == "" || len(dim.Value) > maxDimensionValue {
			errs = append(errs, fmt.Errorf("%w: dimension %s is %q", ErrInvalid, dim.Name, dim.Value))
		}
	}
	for _, m := range r.Metrics {
		if len(m.Values) == 0 {
			continue
		}
		if err := m.check(); err != nil {
			errs = append(errs, err)
		}
		if len(m.Values) == 1 {
			add(m.Name, m.Values[0])
		} else {
			add(m.Name, m.Values)
		}
		d.Metrics = append(d.Metrics, definition{m.Name, m.Unit})
	}
	if n := len(d.Dimensions[0]); n > maxDimensions {
		errs = append(errs, fmt.Errorf("%w: %d dimensions", ErrInvalid, n))
	}
	if n := len(d.Metrics); n == 0 || n > maxMetrics {
		errs = append(errs, fmt.Errorf("%w: %d metrics", ErrInvalid, n))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	root["_aws"] = metadata{Timestamp: r.At.UnixMilli(), CloudWatchMetrics: []directive{d}}
	line, err := json.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(line) >= maxLine {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalid, len(line))
	}
	return append(line, '\n'), nil
}

func (m Metric) check() error {
	if len(m.Values) > MaxValues {
		return fmt.Errorf("%w: metric %s has %d values", ErrInvalid, m.Name, len(m.Values))
	}
	for _, v := range m.Values {
		if !(math.Abs(v) <= maxValue) { // nor NaN
			return fmt.Errorf("%w: metric %s is %v", ErrInvalid, m.Name, v)
		}
	}
	return nil
}
