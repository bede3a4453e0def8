// SPDX-License-Identifier: MPL-2.0

package ssmsim

import (
	"net/http"
	"strings"
	"time"
)

// A Principal is somebody who may call.
type Principal struct {
	// AccessKeyID must be the one in the request's signature.
	AccessKeyID string
	// SessionToken must be the request's X-Amz-Security-Token. Empty: the
	// request must have none.
	SessionToken string
	// Expires is when the credentials end. Zero: never.
	Expires time.Time
}

var (
	missingAuth        = coralFailure("MissingAuthenticationTokenException", "Missing Authentication Token")
	unrecognizedClient = coralFailure("UnrecognizedClientException", "The security token included in the request is invalid.")
	expiredToken       = coralFailure("ExpiredTokenException", "The security token included in the request is expired")
)

// RequireAuth answers only requests that carry a version 4 signature for ssm in
// the server's region by one of the principals. Without principals everybody is
// answered, as at the start. The signature itself is not computed.
func (s *Server) RequireAuth(p ...Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.principal = append([]Principal(nil), p...)
}

// authenticate is called with mu held.
func (s *Server) authenticate(r *http.Request, now time.Time) *failure {
	if len(s.principal) == 0 {
		return nil
	}
	a := parseAuthorization(r.Header.Get("Authorization"))
	switch {
	case !a.ok:
		return missingAuth
	case a.region != s.region || a.service != "ssm":
		return coralFailure("InvalidSignatureException",
			"Credential should be scoped to a valid region and to correct service: 'ssm'.")
	}
	for _, p := range s.principal {
		if p.AccessKeyID != a.accessKeyID || p.SessionToken != r.Header.Get("X-Amz-Security-Token") {
			continue
		}
		if !p.Expires.IsZero() && !now.Round(0).Before(p.Expires) {
			return expiredToken
		}
		return nil
	}
	return unrecognizedClient
}

// authorization is what a Signature Version 4 header says of its maker.
type authorization struct {
	accessKeyID, region, service string
	ok                           bool // all parts are there
}

// parseAuthorization reads
// "AWS4-HMAC-SHA256 Credential=AKID/date/region/service/aws4_request, SignedHeaders=…, Signature=…".
func parseAuthorization(header string) authorization {
	rest, found := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !found {
		return authorization{}
	}
	fields := make(map[string]string, 3)
	for part := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[k] = v
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 {
		return authorization{}
	}
	return authorization{
		accessKeyID: scope[0],
		region:      scope[2],
		service:     scope[3],
		ok:          scope[4] == "aws4_request" && fields["SignedHeaders"] != "" && fields["Signature"] != "",
	}
}
