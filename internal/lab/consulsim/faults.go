// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/simhttp"
)

// A Fault replaces the answer to a request. The functions of this package make
// them; the zero value is not one.
type Fault struct{ serve func(*exchange) }

// Status answers with a status and a line of text, and does nothing.
func Status(code int, text string) Fault {
	return Fault{func(x *exchange) { x.send(x.failure(&failure{code, text})) }}
}

// NoLeader is the answer during an election, HTTP 500.
func NoLeader() Fault { return Status(http.StatusInternalServerError, "No cluster leader") }

// Throttled is the answer of a server whose request limits are enforced, HTTP 429.
func Throttled() Fault {
	return Status(http.StatusTooManyRequests, "rate limit exceeded, try again later or against a different server")
}

// PermissionDenied is the answer to a token that lacks the permission, HTTP 403.
func PermissionDenied() Fault { return Status(http.StatusForbidden, denied.text) }

// Hang keeps the request unanswered, its connection open and silent, until
// Release (it is then answered as usual), Close, or the client leaves.
func Hang() Fault {
	return Fault{func(x *exchange) {
		if x.s.http.Hang(x.r) {
			x.send(x.outcome())
		}
	}}
}

// Cut does what was asked, announces the whole answer, sends the first half of
// it and closes the connection.
func Cut() Fault {
	return Fault{func(x *exchange) {
		out := x.outcome()
		conn := simhttp.Hijack(x.w)
		if conn == nil {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			out.status, http.StatusText(out.status), len(out.body), out.body[:len(out.body)/2])
	}}
}

// Reset answers with a TCP reset, and does nothing.
func Reset() Fault { return Fault{func(x *exchange) { simhttp.Reset(x.w) }} }

// ResetAfter does what was asked and answers with a TCP reset: the client
// cannot know.
func ResetAfter() Fault {
	return Fault{func(x *exchange) {
		x.outcome()
		simhttp.Reset(x.w)
	}}
}

// Call is one request as it arrived. Tokens and values are not part of it.
type Call struct {
	// Op is the operation, one of the constants Op….
	Op string
	// Name is what the request is about: the node, service, entry or key of its
	// path or body. Empty for what has none, and for a transaction.
	Name string
	// Datacenter is ?dc=, as the client sent it.
	Datacenter string
	// At is when the request had been read, by the machine's clock.
	At time.Time
	// RemoteAddr tells connections of the client apart.
	RemoteAddr string
}

// plan is what is to happen to requests, and the record of them. The server's
// lock guards it.
type plan struct {
	calls   []Call
	latency map[string]time.Duration // by operation, "" for all
	faults  []*plannedFault
	at      map[int]Fault // by the number of the call, from 1
}

type plannedFault struct {
	op    string // "": any
	left  int    // requests still to be hit; negative: all
	fault Fault
}

func newPlan() plan {
	return plan{latency: make(map[string]time.Duration), at: make(map[int]Fault)}
}

// FailNext applies f to the next n requests for op, or for any operation if op
// is "". Several plans are used up in the order in which they were made. It
// panics at an operation that does not exist, as all methods that take one do.
func (s *Server) FailNext(op string, n int, f Fault) {
	mustKnow(op)
	if n > 0 {
		s.addFault(op, n, f)
	}
}

// FailAll applies f to every request for op (any if "") until Heal.
func (s *Server) FailAll(op string, f Fault) {
	mustKnow(op)
	s.addFault(op, -1, f)
}

func (s *Server) addFault(op string, n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.faults = append(s.plan.faults, &plannedFault{op: op, left: n, fault: f})
}

// FailAt applies f to exactly the nth request, counted from 1 over all
// operations since Start or ResetCalls. It goes before other plans, and takes
// nothing from them. Running a client once, and then once for each request that
// it made, puts every one of its errors to the test.
func (s *Server) FailAt(nth int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.at[nth] = f
}

// Heal drops all planned faults. Requests already hung stay so until Release.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.faults = nil
	clear(s.plan.at)
}

// Release lets every hung request go on.
func (s *Server) Release() { s.http.Release() }

// SetLatency delays each answer for op by d, or of all operations that have no
// delay of their own if op is "". Zero or less takes the delay away.
func (s *Server) SetLatency(op string, d time.Duration) {
	mustKnow(op)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d <= 0 {
		delete(s.plan.latency, op)
		return
	}
	s.plan.latency[op] = d
}

// Calls returns every request since Start or ResetCalls, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.plan.calls)
}

// Count is the number of requests for op since Start or ResetCalls; of all
// requests if op is "".
func (s *Server) Count(op string) int {
	mustKnow(op)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.plan.calls {
		if op == "" || c.Op == op {
			n++
		}
	}
	return n
}

// ResetCalls forgets the recorded requests.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.calls = nil
}

// record notes the call and decides what happens to it.
func (s *Server) record(c Call) (fault func(*exchange), latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.plan
	p.calls = append(p.calls, c)
	latency, ok := p.latency[c.Op]
	if !ok {
		latency = p.latency[""]
	}
	if f, ok := p.at[len(p.calls)]; ok {
		delete(p.at, len(p.calls))
		return f.serve, latency
	}
	for i, f := range p.faults {
		if f.op != "" && f.op != c.Op {
			continue
		}
		if f.left > 0 {
			if f.left--; f.left == 0 {
				p.faults = slices.Delete(p.faults, i, i+1)
			}
		}
		return f.fault.serve, latency
	}
	return nil, latency
}
