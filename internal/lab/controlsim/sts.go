// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"encoding/xml"
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// callerIdentity is the answer to GetCallerIdentity.
type callerIdentity struct {
	XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	ARN       string   `xml:"GetCallerIdentityResult>Arn"`
	UserID    string   `xml:"GetCallerIdentityResult>UserId"`
	Account   string   `xml:"GetCallerIdentityResult>Account"`
	RequestID string   `xml:"ResponseMetadata>RequestId"`
}

// getCallerIdentity takes the account from the caller's ARN: it need not be the functions'.
func (s *Server) getCallerIdentity(*request) (any, *awswire.Failure) {
	out := callerIdentity{ARN: s.caller, UserID: "AROAEXAMPLE:session", Account: s.account.ID, RequestID: awswire.RequestID()}
	if parts := strings.Split(s.caller, ":"); len(parts) > 4 {
		out.Account = parts[4]
	}
	return out, nil
}
