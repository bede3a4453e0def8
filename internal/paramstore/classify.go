// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// maxMessage bounds what is quoted of a message from outside.
const maxMessage = 400

// failed turns an error of the SDK into ours. Of the SDK's own errors only
// codes, messages and network errors are kept: some hold the response's body.
func (c *call) failed(err error) *Error {
	var (
		creds    *credentialsError
		api      smithy.APIError
		response *awshttp.ResponseError
		status   int
		id       string
	)
	if errors.As(err, &response) {
		status, id = response.HTTPStatusCode(), oneLine(response.ServiceRequestID())
	}
	var e *Error
	switch {
	case errors.Is(c.parent.Err(), context.Canceled):
		e = c.failure(kindCanceled, context.Canceled)
	case errors.As(err, &creds):
		e = c.failure(kindCredentials, credentialsCause(creds.err))
	case errors.As(err, &api) && api.ErrorCode() != noCode:
		e = c.answered(api.ErrorCode(), api.ErrorMessage(), status)
	case isTimeout(err) || isNetwork(err):
		e = c.broken(err)
	case status >= 300:
		e = c.failure(statusKind(status), fmt.Errorf("HTTP status %d without an error code", status))
	case errors.Is(err, io.ErrUnexpectedEOF):
		e = c.failure(kindMalformed, fmt.Errorf("the answer was cut short: %w", io.ErrUnexpectedEOF))
	case status != 0:
		e = c.failure(kindMalformed, errors.New("the answer cannot be read"))
	default: // the SDK would not send the request
		e = c.failure(kindOther, c.quote("", err.Error()))
	}
	e.requestID = id
	return e
}

// noCode is what the SDK makes of an error answer that is JSON but not AWS's.
const noCode = "UnknownError"

// answered is an error that AWS gave.
func (c *call) answered(code, message string, status int) *Error {
	e := c.failure(c.kindOf(code, message, status), c.quote(code, message))
	e.code = code
	if code == "TooManyUpdates" {
		e.Remedy = "another writer was at the same parameter: try again"
	}
	return e
}

// broken is an error of the network. Only once there was a connection can it be
// the service that is slow: a subnet without a route shows as silence too.
func (c *call) broken(err error) *Error {
	cause := networkCause(err)
	switch {
	case !c.asked.Load():
		return c.failure(kindTimeout, fmt.Errorf("no time was left to ask %s: %w", c.store.host, cause))
	case !c.connected.Load():
		return c.failure(kindUnreachable, fmt.Errorf("no connection to %s: %w", c.store.host, cause))
	case isTimeout(err):
		return c.failure(kindTimeout, fmt.Errorf("no answer from %s: %w", c.store.host, cause))
	}
	return c.failure(kindUnreachable, fmt.Errorf("the connection to %s broke: %w", c.store.host, cause))
}

// kindOf classifies AWS's error codes. Where one code means several things
// only the message tells them apart: AWS has nothing better.
func (c *call) kindOf(code, message string, status int) kind {
	switch code {
	case "ParameterNotFound", "ParameterVersionNotFound":
		return kindNotFound
	case "ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded", "TooManyUpdates":
		return kindThrottled
	case "InvalidKeyId":
		return kindInvalidKey
	case "AccessDeniedException", "AccessDenied":
		if strings.Contains(message, "kms:") || strings.Contains(message, "KMS") || strings.Contains(message, "ciphertext") {
			return kindKMSDenied
		}
		return kindAccessDenied
	case "ExpiredTokenException", "ExpiredToken", "RequestExpired", "UnrecognizedClientException", "InvalidClientTokenId",
		"MissingAuthenticationTokenException", "MissingAuthenticationToken", "IncompleteSignatureException",
		"IncompleteSignature", "InvalidSignatureException", "SignatureDoesNotMatch":
		return kindCredentials
	case "ValidationException":
		if c.op == "PutParameter" && strings.Contains(message, "tier") {
			return kindTier
		}
	}
	if k := statusKind(status); k != kindMalformed {
		return k
	}
	return kindOther
}

// statusKind is what a bare HTTP status tells.
func statusKind(status int) kind {
	switch {
	case status == 429:
		return kindThrottled
	case status >= 500:
		return kindOther
	}
	return kindMalformed
}

// isTimeout: a deadline of the context, of the dialer or of the transport.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// isNetwork: the request was not sent, or its connection ended under it. A body
// that ends early is not among these, it is io.ErrUnexpectedEOF.
func isNetwork(err error) bool {
	var (
		op   *net.OpError
		sent interface{ ConnectionError() bool } // the SDK: sending failed
	)
	return errors.As(err, &op) || errors.As(err, &sent) && sent.ConnectionError()
}

// networkCause takes the layers of the SDK and of net/http off a network error.
func networkCause(err error) error {
	var (
		u *url.Error
		o *net.OpError
	)
	switch {
	case errors.As(err, &u):
		return u.Err
	case errors.As(err, &o):
		return o
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	return errors.New(oneLine(err.Error()))
}

// credentialsCause keeps of a failure to get credentials what has no secrets:
// the endpoint is asked with a token and answers with keys.
func credentialsCause(err error) error {
	var (
		api    smithy.APIError
		status interface{ HTTPStatusCode() int }
	)
	switch {
	case errors.As(err, &api) && errors.As(err, &status):
		return errors.New(oneLine(fmt.Sprintf("the credentials endpoint answered %d %s %s", status.HTTPStatusCode(), api.ErrorCode(), api.ErrorMessage())))
	case isTimeout(err) || isNetwork(err):
		return fmt.Errorf("asking the credentials endpoint: %w", networkCause(err))
	}
	return errors.New(oneLine(err.Error()))
}

// quote makes an error of AWS's code and message. A validation error may quote
// what it refuses: a message that has a piece of the value is left out.
func (c *call) quote(code, message string) error {
	if quotes(message, c.secret) {
		message = "(the message quotes the value)"
	}
	switch {
	case code == "":
		return errors.New(oneLine(message))
	case message == "":
		return errors.New(oneLine(code))
	}
	return errors.New(oneLine(code + ": " + message))
}

// quotes says whether message has 16 bytes of secret in a row, or all of it.
func quotes(message, secret string) bool {
	const piece = 16
	if len(secret) <= piece {
		return secret != "" && strings.Contains(message, secret)
	}
	for i := range len(secret) - piece + 1 {
		if strings.Contains(message, secret[i:i+piece]) {
			return true
		}
	}
	return false
}

// oneLine makes text from outside fit for a log line.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == ' ' }), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// failure is an Error of the call with the remedy for its kind.
func (c *call) failure(k kind, cause error) *Error {
	return &Error{Remedy: c.remedy(k, cause), op: c.op, name: c.name, kind: k, err: cause}
}

func (c *call) remedy(k kind, cause error) string {
	switch k {
	case kindNotFound:
		return "is this function registered, and are the prefix and the region (" + c.store.region + ") those that the registrator writes to?"
	case kindThrottled:
		return "try again later; if this lasts, raise the throughput setting of Parameter Store in " + c.store.region
	case kindAccessDenied:
		return "allow ssm:" + c.op + " on " + c.arn()
	case kindKMSDenied:
		if c.op == "PutParameter" {
			return "allow kms:Encrypt and kms:GenerateDataKey on the key that encrypts it"
		}
		return "allow kms:Decrypt on the key that encrypts it"
	case kindInvalidKey:
		return "the KMS key must be enabled, symmetric and in " + c.store.region
	case kindCredentials:
		return "does the function have a role, and is the clock right?"
	case kindUnreachable:
		var cert *tls.CertificateVerificationError
		if errors.As(cause, &cert) {
			return "if a proxy stands in between, set AWS_CA_BUNDLE to its certificates"
		}
		return "is there an SSM endpoint or NAT for this subnet, and does the security group allow port 443?"
	case kindMalformed:
		return "does a proxy or AWS_ENDPOINT_URL stand in between?"
	case kindTooLarge:
		return "drop old CA roots, or use shorter certificate chains"
	case kindTier:
		return "use the tier " + string(IntelligentTiering) + " or " + string(Advanced)
	}
	return ""
}

// arn is what a policy must name for the call to be allowed.
func (c *call) arn() string {
	resource := "parameter/" + strings.TrimPrefix(c.name, "/")
	if c.op == "DescribeParameters" {
		resource = "*" // it has no resource of its own
	}
	return "arn:" + partition(c.store.region) + ":ssm:" + c.store.region + ":" + c.store.account + ":" + resource
}

// partition is the first part of the region's ARNs. The prefixes are those of
// the SDK's partition table, which it does not export.
func partition(region string) string {
	for _, p := range [...]struct{ prefix, partition string }{
		{"cn-", "aws-cn"},
		{"us-gov-", "aws-us-gov"},
		{"us-iso-", "aws-iso"},
		{"us-isob-", "aws-iso-b"},
		{"eu-isoe-", "aws-iso-e"},
		{"us-isof-", "aws-iso-f"},
		{"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(region, p.prefix) {
			return p.partition
		}
	}
	return "aws"
}
