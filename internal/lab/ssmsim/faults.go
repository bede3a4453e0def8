// SPDX-License-Identifier: MPL-2.0

package ssmsim

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// A Fault replaces the answer to a request. The functions of this package make
// them; the zero value is not one.
type Fault = awswire.Fault

// A Principal is somebody who may call, for RequireAuth.
type Principal = awswire.Principal

var throttled = coralFailure("ThrottlingException", "Rate exceeded")

// Throttled is the answer past the account's request rate.
func Throttled() Fault { return failWith(throttled) }

// AccessDenied is the answer to a role that lacks the permission for the
// request. Its message names the action and the resource.
func AccessDenied() Fault { return awswire.AccessDenied() }

// KMSDenied is the answer to a role that may use the parameter but not the key
// that encrypts it. Its code is that of AccessDenied: only the message differs.
func KMSDenied() Fault {
	return awswire.FailWith(func(x *awswire.Exchange) *awswire.Failure {
		service := "(Service: AWSKMS; Status Code: 400; Error Code: AccessDeniedException; Request ID: " + awswire.RequestID() + ")"
		if x.Op == "PutParameter" {
			return coralFailure("AccessDeniedException", fmt.Sprintf(
				"User: %s is not authorized to perform: kms:GenerateDataKey on the resource associated with this ciphertext because no identity-based policy allows the kms:GenerateDataKey action %s",
				x.Account.Caller, service))
		}
		return coralFailure("AccessDeniedException",
			"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access. "+service)
	})
}

// InvalidKey is the answer when the key is disabled, gone or of the wrong kind.
func InvalidKey() Fault {
	return awswire.FailWith(func(x *awswire.Exchange) *awswire.Failure {
		return ssmFailure("InvalidKeyId", x.Account.ARN("kms", "key/1234abcd-12ab-34cd-56ef-1234567890ab")+" is disabled.")
	})
}

// ExpiredToken is the answer to credentials past their end.
func ExpiredToken() Fault { return awswire.ExpiredToken() }

// UnrecognizedClient is the answer to an access key that AWS does not know.
func UnrecognizedClient() Fault { return awswire.UnrecognizedClient() }

// InternalError is the service's own failure, HTTP 500.
func InternalError() Fault {
	f := ssmFailure("InternalServerError", "Internal server error")
	f.Status = http.StatusInternalServerError
	return failWith(f)
}

// Error answers 400 with a code ("TooManyUpdates") and message of the caller's
// choice.
func Error(code, message string) Fault { return failWith(ssmFailure(code, message)) }

// Raw answers with a status and a body that need not be the service's: what a
// proxy in between would send.
func Raw(status int, contentType, body string) Fault { return awswire.Raw(status, contentType, body) }

// Hang keeps the request unanswered, its connection open and silent, until
// Release (it is then answered as usual), Close, or the client leaves.
func Hang() Fault { return awswire.Hang() }

// Truncate does what was asked, announces the whole answer, sends the first
// half of it and closes the connection.
func Truncate() Fault { return awswire.Truncate() }

// Reset answers with a TCP reset.
func Reset() Fault { return awswire.Reset() }

func failWith(f *awswire.Failure) Fault {
	return awswire.FailWith(func(*awswire.Exchange) *awswire.Failure { return f })
}

// SetReadLimit lets perSecond requests through to all Get operations together,
// and up to burst at once; the others are throttled. AWS allows 40 a second by
// default. Zero or less takes the limit away.
func (s *Server) SetReadLimit(perSecond float64, burst int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads = awswire.Limiter(perSecond, burst)
}

// SetWriteLimit is SetReadLimit for PutParameter (3 a second in AWS).
func (s *Server) SetWriteLimit(perSecond float64, burst int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = awswire.Limiter(perSecond, burst)
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
