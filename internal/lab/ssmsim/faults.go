// SPDX-License-Identifier: MPL-2.0

package ssmsim

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// A Fault replaces the answer to a request. The functions of this package make
// them; the zero value is not one.
type Fault struct{ serve func(*exchange) }

type plannedFault struct {
	op    string // "": any
	left  int    // requests still to be hit; negative: all
	fault Fault
}

var throttled = coralFailure("ThrottlingException", "Rate exceeded")

// Throttled is the answer past the account's request rate.
func Throttled() Fault { return failWith(func(*exchange) *failure { return throttled }) }

// AccessDenied is the answer to a role that lacks the permission for the
// request. Its message names the action and the resource.
func AccessDenied() Fault {
	return failWith(func(x *exchange) *failure {
		resource := x.s.arn(x.call.Name)
		if x.call.Op == "DescribeParameters" {
			resource = fmt.Sprintf("arn:%s:ssm:%s:%s:*", partition(x.s.region), x.s.region, x.s.account)
		}
		return coralFailure("AccessDeniedException", fmt.Sprintf(
			"User: arn:%s:sts::%s:assumed-role/fn-role/fn is not authorized to perform: ssm:%s on resource: %s because no identity-based policy allows the ssm:%s action",
			partition(x.s.region), x.s.account, x.call.Op, resource, x.call.Op))
	})
}

// KMSDenied is the answer to a role that may use the parameter but not the key
// that encrypts it. Its code is that of AccessDenied: only the message differs.
func KMSDenied() Fault {
	return failWith(func(x *exchange) *failure {
		if x.call.Op == "PutParameter" {
			return coralFailure("AccessDeniedException", fmt.Sprintf(
				"User: arn:%s:sts::%s:assumed-role/fn-role/fn is not authorized to perform: kms:GenerateDataKey on the resource associated with this ciphertext because no identity-based policy allows the kms:GenerateDataKey action (Service: AWSKMS; Status Code: 400; Error Code: AccessDeniedException; Request ID: %s)",
				partition(x.s.region), x.s.account, requestID()))
		}
		return coralFailure("AccessDeniedException",
			"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access. (Service: AWSKMS; Status Code: 400; Error Code: AccessDeniedException; Request ID: "+requestID()+")")
	})
}

// InvalidKey is the answer when the key is disabled, gone or of the wrong kind.
func InvalidKey() Fault {
	return failWith(func(x *exchange) *failure {
		return ssmFailure("InvalidKeyId", fmt.Sprintf(
			"arn:%s:kms:%s:%s:key/1234abcd-12ab-34cd-56ef-1234567890ab is disabled.",
			partition(x.s.region), x.s.region, x.s.account))
	})
}

// ExpiredToken is the answer to credentials past their end.
func ExpiredToken() Fault { return failWith(func(*exchange) *failure { return expiredToken }) }

// UnrecognizedClient is the answer to an access key that AWS does not know.
func UnrecognizedClient() Fault {
	return failWith(func(*exchange) *failure { return unrecognizedClient })
}

// InternalError is the service's own failure, HTTP 500.
func InternalError() Fault {
	return failWith(func(*exchange) *failure {
		return &failure{http.StatusInternalServerError, "com.amazonaws.ssm#InternalServerError", "Internal server error"}
	})
}

// Error answers 400 with a code ("TooManyUpdates") and message of the caller's
// choice.
func Error(code, message string) Fault {
	return failWith(func(*exchange) *failure { return ssmFailure(code, message) })
}

// Raw answers with a status and a body that need not be the service's: what a
// proxy in between would send.
func Raw(status int, contentType, body string) Fault {
	return Fault{func(x *exchange) {
		x.w.Header().Set("Content-Type", contentType)
		x.w.WriteHeader(status)
		_, _ = x.w.Write([]byte(body))
	}}
}

// Hang keeps the request unanswered, its connection open and silent, until
// Release (it is then answered as usual), Close, or the client leaves.
func Hang() Fault {
	return Fault{func(x *exchange) {
		x.s.mu.Lock()
		gate := x.s.gate
		x.s.mu.Unlock()
		select {
		case <-gate:
			x.answer()
		case <-x.r.Context().Done():
		case <-x.s.done:
		}
	}}
}

// Truncate does what was asked, announces the whole answer, sends the first
// half of it and closes the connection.
func Truncate() Fault {
	return Fault{func(x *exchange) {
		out, f := x.outcome()
		if f != nil {
			x.fail(f)
			return
		}
		body := marshal(out)
		conn := x.hijack()
		if conn == nil {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n%s",
			len(body), body[:len(body)/2])
	}}
}

// Reset answers with a TCP reset.
func Reset() Fault {
	return Fault{func(x *exchange) {
		conn := x.hijack()
		if conn == nil {
			return
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // unsent and unread data are dropped: RST
		}
		_ = conn.Close()
	}}
}

func (x *exchange) hijack() net.Conn {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return nil
	}
	return conn
}

func failWith(failureFor func(*exchange) *failure) Fault {
	return Fault{func(x *exchange) { x.fail(failureFor(x)) }}
}

// FailNext applies f to the next n requests for op, or for any operation if op
// is "". Several plans are used up in the order in which they were made.
func (s *Server) FailNext(op string, n int, f Fault) {
	if n > 0 {
		s.plan(op, n, f)
	}
}

// FailAll applies f to every request for op (any if "") until Heal.
func (s *Server) FailAll(op string, f Fault) { s.plan(op, -1, f) }

func (s *Server) plan(op string, n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &plannedFault{op: op, left: n, fault: f})
}

// Heal drops all planned faults. Requests already hung stay so until Release.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Release lets every hung request go on.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.gate)
	s.gate = make(chan struct{})
}

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

// SetReadLimit lets perSecond requests through to all Get operations together,
// and up to burst at once; the others are throttled. AWS allows 40 a second by
// default. Zero or less takes the limit away.
func (s *Server) SetReadLimit(perSecond float64, burst int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads = limiter(perSecond, burst)
}

// SetWriteLimit is SetReadLimit for PutParameter (3 a second in AWS).
func (s *Server) SetWriteLimit(perSecond float64, burst int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = limiter(perSecond, burst)
}

func limiter(perSecond float64, burst int) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(burst, 1))
}

// record notes the call and decides what happens to it.
func (s *Server) record(c Call) (fault func(*exchange), latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
	latency, ok := s.latency[c.Op]
	if !ok {
		latency = s.latency[""]
	}
	for i, p := range s.faults {
		if p.op != "" && p.op != c.Op {
			continue
		}
		if p.left > 0 {
			if p.left--; p.left == 0 {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			}
		}
		return p.fault.serve, latency
	}
	return nil, latency
}

// admit takes a token for op. The caller holds mu.
func (s *Server) admit(op string) bool {
	l := s.writes
	switch {
	case strings.HasPrefix(op, "Get"):
		l = s.reads
	case op != "PutParameter":
		return true
	}
	return l == nil || l.Allow()
}
