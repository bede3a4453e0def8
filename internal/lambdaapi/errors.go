// SPDX-License-Identifier: MPL-2.0

package lambdaapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/consul-lambda/consul-lambda/internal/apicall"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// errDenied means that the role lacks a permission. The error's text names it.
var errDenied = errors.New("access denied")

// failed says what a call was about and how often it was tried. Of the SDK's errors only codes, messages, network errors and the
// context's end are kept: an error of decoding may quote the body, which has the function's environment variables.
func failed(c call, err error) error {
	tries := ""
	if n := c.tries.Load(); n > 1 {
		tries = fmt.Sprintf(" (tried %d times)", n)
	}
	var missing *types.ResourceNotFoundException
	switch {
	case c.op == "GetFunction" && errors.As(err, &missing):
		return fmt.Errorf("%s %s: %w", c.op, c.about, registrator.ErrNoFunction)
	case denied(err):
		return fmt.Errorf("%s %s%s: %w: allow the role %s (%w)", c.op, c.about, tries, errDenied, c.permission, cause(err))
	}
	return fmt.Errorf("%s %s%s: %w", c.op, c.about, tries, cause(err))
}

// denied reports a refusal by a policy, of the role or of the organisation.
func denied(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && (api.ErrorCode() == "AccessDeniedException" || api.ErrorCode() == "AccessDenied")
}

func cause(err error) error {
	var (
		api      smithy.APIError
		unread   *smithy.DeserializationError
		network  *url.Error
		canceled *smithy.CanceledError
	)
	switch {
	case errors.As(err, &api):
		return errors.New(apicall.OneLine(api.ErrorCode() + ": " + api.ErrorMessage()))
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, context.Canceled) || errors.As(err, &canceled):
		return context.Canceled
	case errors.As(err, &unread):
		return errors.New("the answer cannot be read")
	case errors.As(err, &network):
		return network.Err
	}
	return errors.New(apicall.OneLine(err.Error()))
}
