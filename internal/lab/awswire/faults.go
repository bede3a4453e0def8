// SPDX-License-Identifier: MPL-2.0

package awswire

import (
	"bytes"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/internal/lab/simhttp"
)

// A Fault replaces the answer to a request. The functions of this package make
// them; the zero value is not one.
type Fault struct{ serve func(*Exchange) }

// FailWith answers with the failure that failureFor makes of the request. What was asked is not done.
func FailWith(failureFor func(*Exchange) *Failure) Fault {
	return Fault{func(x *Exchange) { x.write(x.failure(failureFor(x))) }}
}

// AccessDenied is the answer to a role that lacks the permission for the
// request. Its message names the action and the resource.
func AccessDenied() Fault {
	return FailWith(func(x *Exchange) *Failure {
		return x.Protocol.Common("AccessDeniedException", x.Account.Denied(x.Action, x.Resource))
	})
}

// ExpiredToken is the answer to credentials past their end.
func ExpiredToken() Fault { return FailWith(expiredToken) }

// UnrecognizedClient is the answer to an access key that AWS does not know.
func UnrecognizedClient() Fault { return FailWith(unrecognizedClient) }

// Raw answers with a status and a body that need not be the service's: what a
// proxy in between would send.
func Raw(status int, contentType, body string) Fault {
	return Fault{func(x *Exchange) {
		x.w.Header().Set("Content-Type", contentType)
		x.w.WriteHeader(status)
		_, _ = x.w.Write([]byte(body))
	}}
}

// Hang keeps the request unanswered, its connection open and silent, until
// Release (it is then answered as usual), Close, or the client leaves.
func Hang() Fault {
	return Fault{func(x *Exchange) {
		if x.s.http.Hang(x.r) {
			x.answer()
		}
	}}
}

// Truncate does what was asked, announces the whole answer, sends the first half of its body (of its head, if it has no
// body) and closes the connection. A failure is sent whole.
func Truncate() Fault {
	return Fault{func(x *Exchange) {
		r := x.outcome()
		if r.status >= http.StatusBadRequest {
			x.write(r)
			return
		}
		conn := simhttp.Hijack(x.w)
		if conn == nil {
			return
		}
		defer conn.Close()
		var b bytes.Buffer
		fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
			r.status, http.StatusText(r.status), r.contentType, len(r.body))
		if len(r.body) > 0 {
			b.Write(r.body[:len(r.body)/2])
		} else {
			b.Truncate(b.Len() / 2)
		}
		_, _ = conn.Write(b.Bytes())
	}}
}

// Reset answers with a TCP reset. What was asked is not done. Go's HTTP client tries again by itself where the
// connection had carried an earlier request, so that it takes two to fail a call.
func Reset() Fault { return Fault{func(x *Exchange) { simhttp.Reset(x.w) }} }

// A Target says which requests a fault hits: those that have all that is set. The zero value is all of them, for good.
type Target struct {
	// Op is the operation. Empty: any.
	Op string
	// Name is what the request is about. Empty: anything.
	Name string
	// Page is the page of the listing that is asked for, from 1 on. Zero: any page, and what is no listing.
	Page int
	// Skip lets so many matching requests pass first.
	Skip int
	// Times is how many are hit before the fault is used up. Zero: all, until Heal.
	Times int
}

type plannedFault struct {
	Target
	fault Fault
}

func (p *plannedFault) matches(r *Request) bool {
	return (p.Op == "" || p.Op == r.Op) && (p.Name == "" || p.Name == r.Name) && (p.Page == 0 || p.Page == r.Page)
}

// faultFor finds the first plan for the request and uses it up by one. The caller holds mu.
func (s *Server) faultFor(r *Request) func(*Exchange) {
	for i, p := range s.faults {
		switch {
		case !p.matches(r):
			continue
		case p.Skip > 0:
			p.Skip--
			continue
		case p.Times == 1:
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
		case p.Times > 1:
			p.Times--
		}
		return p.fault.serve
	}
	return nil
}

// Fail applies f to the requests that target names. A request is hit by the first plan that matches it, in the order in
// which the plans were made; only requests that no earlier plan hit count for Skip and Times.
func (s *Server) Fail(target Target, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &plannedFault{target, f})
}

// FailNext applies f to the next n requests for op, or for any operation if op
// is "".
func (s *Server) FailNext(op string, n int, f Fault) {
	if n > 0 {
		s.Fail(Target{Op: op, Times: n}, f)
	}
}

// FailAt applies f to one request for op: the nth from now, where 1 is the next.
func (s *Server) FailAt(op string, nth int, f Fault) {
	s.Fail(Target{Op: op, Skip: nth - 1, Times: 1}, f)
}

// FailAll applies f to every request for op (any if "") until Heal.
func (s *Server) FailAll(op string, f Fault) { s.Fail(Target{Op: op}, f) }

// Heal drops all planned faults. Requests already hung stay so until Release.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Release lets every hung request go on.
func (s *Server) Release() { s.http.Release() }

// SetLatency delays each answer for op by d, or of all operations that have no
// delay of their own if op is "". Zero or less takes the delay away.
func (s *Server) SetLatency(op string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d <= 0 {
		delete(s.latency, op)
		return
	}
	s.latency[op] = d
}

// Limiter is a bucket of burst requests, filled at perSecond; nil, which means no limit, if that is zero or less.
func Limiter(perSecond float64, burst int) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(burst, 1))
}
