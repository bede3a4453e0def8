// SPDX-License-Identifier: MPL-2.0

package lambdaapi

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/consul-lambda/consul-lambda/internal/apicall"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// Get reads a function anew. The error wraps registrator.ErrNoFunction only if AWS answered with ResourceNotFoundException.
func (a *Client) Get(ctx context.Context, name string) (registrator.Function, error) {
	c := a.call(call{limiter: a.getFunction, op: "GetFunction", about: name, permission: "lambda:GetFunction on " + name})
	ctx, cancel := a.bound(ctx)
	defer cancel()
	out, err := a.lambda.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &name}, func(o *lambda.Options) { o.Retryer = c })
	if err != nil {
		return registrator.Function{}, failed(c, err)
	}
	if e := out.TagsError; e != nil {
		// The call succeeds without its tags: the function would look untagged, and be deregistered
		// (docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html).
		return registrator.Function{}, fmt.Errorf("GetFunction %s: its tags are not shown: %w: allow the role lambda:ListTags on %s (%s)",
			name, errDenied, name, apicall.OneLine(aws.ToString(e.ErrorCode)+": "+aws.ToString(e.Message)))
	}
	if out.Configuration == nil {
		return registrator.Function{}, fmt.Errorf("GetFunction %s: the answer has no configuration", name)
	}
	arn, err := registrator.ParseARN(aws.ToString(out.Configuration.FunctionArn))
	if err != nil {
		return registrator.Function{}, fmt.Errorf("GetFunction %s: %w", name, err)
	}
	if arn.Name() != name {
		return registrator.Function{}, fmt.Errorf("GetFunction %s: the answer is about %s", name, arn.Name())
	}
	return registrator.Function{ARN: arn, Tags: out.Tags}, nil
}
