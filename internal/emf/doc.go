// SPDX-License-Identifier: MPL-2.0

// Package emf writes metrics into a log, in CloudWatch's embedded metric format: a line of JSON that says which of its members are
// metrics. CloudWatch makes metrics of them when it takes the line in; the program calls no API and needs no right for it.
//
//	line, err := emf.Record{
//		Namespace:  "ConsulLambda/Extension",
//		At:         time.Now(),
//		Dimensions: []emf.Dimension{{Name: "FunctionName", Value: "checkout"}},
//		Metrics:    []emf.Metric{{Name: "Connections", Unit: emf.Count, Values: []float64{3}}},
//	}.Line()
//	_, err = os.Stdout.Write(line)
//
// Only what the specification allows is written; where it names a limit, [Record.Line] holds it:
// docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
//
// Each metric of each set of dimension values is a custom metric that costs money for every hour in which it has a value. A record
// has one set of dimensions, and a metric without a value is left out of it.
//
// A [Histogram] collects durations from many goroutines, in bounded memory, until a record is made of them.
//
// Not here: when a line is written, where to, and what is measured.
package emf
