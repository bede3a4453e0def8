// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"net/http"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// A Fault replaces the answer to a request. The functions of this package make them; the zero value is not one. Those
// that answer with an error do it in the form of the service that was asked.
type Fault = awswire.Fault

// A Target says which requests a fault hits, for Server.Fail. Its Name is that of a function; pages are those of
// ListFunctions, ListAliases and GetResources.
type Target = awswire.Target

// A Principal is somebody who may call, for RequireAuth.
type Principal = awswire.Principal

// Call is one request as it arrived. Its Name is the plain name of the function that it is about, "" if it is about
// none in particular.
type Call = awswire.Call

// Throttled is the answer past the rate of the call's family.
func Throttled() Fault { return awswire.FailWith(throttled) }

// throttled is TooManyRequestsException with HTTP 429 for Lambda, ThrottledException with 400 for tagging (that is what
// its users see; the SDKs know ThrottlingException as well, see Error) and Throttling with 400 for STS.
func throttled(x *awswire.Exchange) *awswire.Failure { return rateExceeded(x.Protocol) }

func rateExceeded(p awswire.Protocol) *awswire.Failure {
	f := &awswire.Failure{Code: "ThrottledException", Message: "Rate exceeded"}
	switch p {
	case awswire.RESTJSON:
		f.Status, f.Code, f.Reason = http.StatusTooManyRequests, "TooManyRequestsException", "CallerRateLimitExceeded"
	case awswire.Query:
		f.Code = "Throttling"
	}
	return f
}

// AccessDenied is the answer to a role that lacks the permission for the request. Its message names the action and the
// resource. Deny is for good, and knows what else hangs on a permission.
func AccessDenied() Fault { return awswire.AccessDenied() }

// ExpiredToken is the answer to credentials past their end.
func ExpiredToken() Fault { return awswire.ExpiredToken() }

// UnrecognizedClient is the answer to an access key that AWS does not know.
func UnrecognizedClient() Fault { return awswire.UnrecognizedClient() }

// InternalError is the service's own failure, HTTP 500.
func InternalError() Fault {
	return awswire.FailWith(func(x *awswire.Exchange) *awswire.Failure {
		code := "InternalServiceException"
		switch x.Protocol {
		case awswire.RESTJSON:
			code = "ServiceException"
		case awswire.Query:
			code = "InternalFailure"
		}
		return &awswire.Failure{Status: http.StatusInternalServerError, Code: code, Message: "Internal server error"}
	})
}

// PaginationExpired is the answer to a token of a listing that was kept too long: an error of its own in the tagging
// API, which keeps tokens for 15 minutes, and a bad parameter in Lambda.
func PaginationExpired() Fault {
	return awswire.FailWith(func(x *awswire.Exchange) *awswire.Failure {
		if x.Protocol == awswire.RESTJSON {
			return invalidParameter("Invalid Marker")
		}
		return &awswire.Failure{Code: "PaginationTokenExpiredException", Message: "The pagination token has expired."}
	})
}

// Error answers with an HTTP status, a code and a message of the caller's choice.
func Error(status int, code, message string) Fault {
	f := &awswire.Failure{Status: status, Code: code, Message: message}
	return awswire.FailWith(func(*awswire.Exchange) *awswire.Failure { return f })
}

// Raw answers with a status and a body that need not be the service's: what a proxy in between would send.
func Raw(status int, contentType, body string) Fault { return awswire.Raw(status, contentType, body) }

// Hang keeps the request unanswered, its connection open and silent, until Release (it is then answered as usual),
// Close, or the client leaves.
func Hang() Fault { return awswire.Hang() }

// Truncate does what was asked, announces the whole answer, sends the first half of it and closes the connection.
func Truncate() Fault { return awswire.Truncate() }

// Reset answers with a TCP reset. What was asked is not done. Go's HTTP client tries again by itself where the
// connection had carried an earlier request, so that it takes two to fail a call.
func Reset() Fault { return awswire.Reset() }
