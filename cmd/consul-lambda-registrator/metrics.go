// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/consul-lambda/consul-lambda/internal/emf"
	"github.com/consul-lambda/consul-lambda/registrator"
)

const metricsNamespace = "ConsulLambda/Registrator"

// finished is a run that has ended, as its metrics see it.
type finished struct {
	scope  registrator.Scope
	dry    bool // nothing was to be written
	began  time.Time
	took   time.Duration
	result registrator.Result
	err    error
}

// measure writes a line of metrics for a run, with CONSUL_LAMBDA_METRICS=emf. A run that was not to change anything, or had nothing
// to look at, has none: alarms judge what was done.
func (h *handler) measure(f finished) {
	if h.metrics == nil || f.dry || f.scope.Skip != "" {
		return
	}
	line, err := f.record().Line()
	if err != nil {
		h.log.Error("metrics were not written", "error", err.Error())
		return
	}
	_, _ = h.metrics.Write(line) // nobody is left to be told
}

// record is what the run did. Zeros are said too, for alarms to see; the leaf's life is left out where there is no leaf.
func (f finished) record() emf.Record {
	r := f.result
	full := 0
	if len(f.scope.Functions) == 0 && !r.Partial && !errors.Is(f.err, registrator.ErrObserve) && !errors.Is(f.err, registrator.ErrOwner) {
		full = 1 // with failures or without: it looked at everything and went through
	}
	count := func(name string, n int) emf.Metric {
		return emf.Metric{Name: name, Unit: emf.Count, Values: []float64{float64(n)}}
	}
	metrics := []emf.Metric{
		count("FullRuns", full),
		count("Created", r.Created), count("Updated", r.Updated), count("Renewed", r.Renewed), count("Deleted", r.Deleted),
		count("Skipped", r.Skipped), count("Failed", r.Failed), count("Warned", r.Warned),
		{Name: "DurationMilliseconds", Unit: emf.Milliseconds, Values: []float64{float64(f.took.Milliseconds())}},
	}
	if full == 1 { // what is ours is not counted by a run that looked at one function, or at nothing
		metrics = append(metrics, count("Enabled", r.Enabled))
	}
	if r.LeafOf != "" {
		left := r.LeafLeft.Round(time.Second).Seconds()
		metrics = append(metrics, emf.Metric{Name: "LeafLifeLeftSeconds", Unit: emf.Seconds, Values: []float64{left}})
	}
	return emf.Record{
		Namespace:  metricsNamespace,
		At:         f.began.Add(f.took),
		Dimensions: []emf.Dimension{{Name: "FunctionName", Value: lambdacontext.FunctionName}},
		Metrics:    metrics,
	}
}
