// SPDX-License-Identifier: MPL-2.0

package awswire

import (
	"fmt"
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
	// May says whether a policy allows the action ("ssm:GetParameter") on the resource's ARN, which may be "". Nil: all is allowed.
	May func(action, resource string) bool
}

// RequireAuth answers only requests that carry a version 4 signature for the service that they ask, in the server's
// region, by one of the principals. Without principals everybody is answered, as at the start. The signature itself is
// not computed.
func (s *Server) RequireAuth(p ...Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.principals = append([]Principal(nil), p...) // never changed in place
}

func (x *Exchange) authenticate() *Failure {
	x.s.mu.Lock()
	principals := x.s.principals
	x.s.mu.Unlock()
	if len(principals) == 0 {
		return nil
	}
	a := parseAuthorization(x.r.Header.Get("Authorization"))
	switch {
	case !a.ok:
		return x.Protocol.Common("MissingAuthenticationTokenException", "Missing Authentication Token")
	case a.region != x.Account.Region || a.service != x.Service:
		return x.Protocol.Common("InvalidSignatureException",
			fmt.Sprintf("Credential should be scoped to a valid region and to correct service: '%s'.", x.Service))
	}
	for _, p := range principals {
		if p.AccessKeyID != a.accessKeyID || p.SessionToken != x.r.Header.Get("X-Amz-Security-Token") {
			continue
		}
		if !p.Expires.IsZero() && !x.Call.At.Round(0).Before(p.Expires) {
			return expiredToken(x)
		}
		if p.May != nil && !p.May(x.Action, x.Resource) {
			return x.Protocol.Common("AccessDeniedException", x.Account.Denied(x.Action, x.Resource))
		}
		return nil
	}
	return unrecognizedClient(x)
}

func expiredToken(x *Exchange) *Failure {
	return x.Protocol.Common("ExpiredTokenException", "The security token included in the request is expired")
}

func unrecognizedClient(x *Exchange) *Failure {
	return x.Protocol.Common("UnrecognizedClientException", "The security token included in the request is invalid.")
}

// accessKeyID is "" if the request is not signed.
func accessKeyID(r *http.Request) string {
	return parseAuthorization(r.Header.Get("Authorization")).accessKeyID
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
