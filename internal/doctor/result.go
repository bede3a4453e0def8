// SPDX-License-Identifier: MPL-2.0

package doctor

import "fmt"

// Status is how a check ended.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Warn Status = "warn" // it works, and may not for long or not everywhere
	Fail Status = "fail"
	Skip Status = "skip" // it could not be made, or cannot be told from here; Detail says why
)

// Result is what one check found.
type Result struct {
	Name    string `json:"name"`              // of the check: see the package's text
	Subject string `json:"subject,omitempty"` // the gateway or the upstream, where there are several
	Status  Status `json:"status"`
	Detail  string `json:"detail"`
	// Remedy is what a person can do about it; "" where there is nothing to do, or nothing is known.
	Remedy string `json:"remedy,omitempty"`
}

// Report is the result of all checks.
type Report struct {
	OK      bool     `json:"ok"` // nothing failed
	Failed  int      `json:"failed"`
	Warned  int      `json:"warned"`
	Skipped int      `json:"skipped"`
	Results []Result `json:"results"` // in the order of the checks
}

func (r *Report) add(result Result) {
	r.Results = append(r.Results, result)
	switch result.Status {
	case Fail:
		r.Failed++
	case Warn:
		r.Warned++
	case Skip:
		r.Skipped++
	}
}

// finding is a Result under construction: of what, with its format.
type finding struct{ name, subject string }

func (f finding) result(s Status, remedy, format string, args ...any) Result {
	return Result{Name: f.name, Subject: f.subject, Status: s, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

func (f finding) ok(format string, args ...any) Result   { return f.result(OK, "", format, args...) }
func (f finding) skip(format string, args ...any) Result { return f.result(Skip, "", format, args...) }
func (f finding) fail(remedy, format string, args ...any) Result {
	return f.result(Fail, remedy, format, args...)
}
func (f finding) warn(remedy, format string, args ...any) Result {
	return f.result(Warn, remedy, format, args...)
}

// one returns the result of a check that has only one.
func one(r Result) []Result { return []Result{r} }

// failed reports whether one of the results is a failure.
func failed(results []Result) bool {
	for _, r := range results {
		if r.Status == Fail {
			return true
		}
	}
	return false
}
