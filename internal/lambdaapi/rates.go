// SPDX-License-Identifier: MPL-2.0

package lambdaapi

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/internal/apicall"
)

// Rates are calls per second, retried ones included. Of each, zero means a third of what AWS allows an account in a region, so
// that deployments and consoles keep the rest, and a negative one no limit of ours.
type Rates struct {
	// Control is for ListFunctions. AWS: 15 for all of the control plane but GetFunction and GetPolicy, not raisable
	// (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
	Control float64
	// GetFunction has 100 of its own (same page).
	GetFunction float64
	// Tagging is for GetResources. AWS: 15 (docs.aws.amazon.com/tag-editor/latest/userguide/reference.html).
	Tagging float64
}

const (
	awsControl     = 15
	awsGetFunction = 100
	awsTagging     = 15
)

// limiter is for a rate as it was configured, of an API of which AWS allows that many calls a second. Nil: no limit.
func limiter(configured, allowed float64) *rate.Limiter {
	return apicall.PerSecond(cmp.Or(configured, allowed/3))
}

const (
	// maxTries with backoffs of up to 1, 2, 4, 5 and 5 s, half of it on average, outlast a burst of somebody's deployment.
	maxTries   = 6
	maxBackoff = 5 * time.Second
)

// newRetryer is shared by all calls. Its token bucket is off: it would fail calls without a try, and the rates bound the load.
func newRetryer(maxBackoff time.Duration) aws.RetryerV2 {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxTries
		o.MaxBackoff = maxBackoff
		o.RateLimiter = ratelimit.None
	})
}

// call is one call of an operation, with its retries. It is its own retryer: the SDK asks it before each attempt.
type call struct {
	aws.RetryerV2
	limiter    *rate.Limiter // nil: no limit
	op, about  string        // for errors: the operation and what it was called for
	permission string        // that the operation needs
	tries      *atomic.Int32
}

// GetAttemptToken waits for the API's rate. A wait that would outlast the context fails at once.
func (c call) GetAttemptToken(ctx context.Context) (func(error) error, error) {
	if c.limiter != nil {
		if err := c.limiter.Wait(ctx); err != nil {
			if ctx.Err() == nil {
				err = context.DeadlineExceeded
			}
			return nil, fmt.Errorf("waiting for the rate: %w", err)
		}
	}
	c.tries.Add(1)
	return c.RetryerV2.GetAttemptToken(ctx)
}
