// SPDX-License-Identifier: MPL-2.0

package awswire

import (
	"maps"
	"slices"
	"time"
)

// Call is one request as it arrived. Values are not part of it.
type Call struct {
	// Op is the operation, "GetParameter".
	Op string
	// Name is what it is about, as its service says: a parameter's name, a function's.
	Name string
	// At is when the request had been read.
	At time.Time
	// AccessKeyID is from the request's signature, "" if it has none.
	AccessKeyID string
	// RemoteAddr tells connections of the client apart.
	RemoteAddr string
}

// Calls returns every request since Start or ResetCalls, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Count is the number of requests for op since Start or ResetCalls; of all requests if op is "".
func (s *Server) Count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if op == "" || c.Op == op {
			n++
		}
	}
	return n
}

// MaxInFlight is the highest number of requests for op (of all if op is "") that were under way at one time, since
// Start or ResetCalls: from when each was read until its answer was written, latency and hanging included.
func (s *Server) MaxInFlight(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak[op]
}

// ResetCalls forgets the recorded requests. MaxInFlight starts again from the requests that are under way.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
	s.peak = maps.Clone(s.flying)
}

// took and gave count a request for op in and out. The caller holds mu.
func (s *Server) took(op string) {
	for _, key := range keys(op) {
		s.flying[key]++
		s.peak[key] = max(s.peak[key], s.flying[key])
	}
}

func (s *Server) gave(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys(op) {
		s.flying[key]--
	}
}

// keys are those that a request for op counts under; one that is for no operation counts once.
func keys(op string) []string {
	if op == "" {
		return []string{""}
	}
	return []string{op, ""}
}
