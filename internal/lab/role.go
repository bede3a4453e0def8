// SPDX-License-Identifier: MPL-2.0

package lab

import (
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
)

// newRole returns credentials of a role that is new.
func newRole(account string) lambdasim.Options {
	return lambdasim.Options{
		AccountID:       account,
		AccessKeyID:     "ASIA" + strings.ToUpper(randomHex(8)),
		SecretAccessKey: "secret-" + randomHex(20),
		SessionToken:    "token-" + randomHex(40),
	}
}

// principal is the role with those credentials. may is its policy, nil for one that allows everything.
func principal(role lambdasim.Options, may func(action, resource string) bool) ssmsim.Principal {
	return ssmsim.Principal{AccessKeyID: role.AccessKeyID, SessionToken: role.SessionToken, May: may}
}

// reader is the function's role: it may read its own document, and nothing else.
func (w *World) reader() ssmsim.Principal {
	return principal(w.account, func(action, resource string) bool {
		return action == "ssm:GetParameter" && strings.HasSuffix(resource, ":parameter"+w.path)
	})
}

// writer is the registrator's role, with the policy of deploy/terraform: it lists parameters, writes and deletes documents, and
// reads what is elsewhere, Consul's token and CA certificate. It does not read a document: it must not need to.
func writer(role lambdasim.Options) ssmsim.Principal {
	return principal(role, func(action, resource string) bool {
		document := strings.Contains(resource, ":parameter"+dataPrefix+"/")
		switch action {
		case "ssm:PutParameter", "ssm:DeleteParameter":
			return document
		case "ssm:GetParameter":
			return !document
		}
		return action == "ssm:DescribeParameters"
	})
}
