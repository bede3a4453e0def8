// SPDX-License-Identifier: MPL-2.0

package lambdaapi

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/registrator"
)

// Config says which account is looked at and how fast. AWS has no usable zero value, the rest has.
type Config struct {
	// AWS has the region, the credentials and the HTTP client.
	AWS aws.Config
	// Rates are the limits on our side.
	Rates Rates
	// PageSize is how many functions ListFunctions is asked for at once, where the tagging API is not permitted. Zero: 50, the most.
	PageSize int
	// Timeout bounds each call of an API with its retries, in addition to the context. Zero: 30 s. Negative: the context alone.
	Timeout time.Duration
	// Log is told once when the tagging API is not permitted, and of looks that stop early. Nil: discarded.
	Log *slog.Logger
}

// defaultTimeout leaves room for all tries of a throttled call, and stops a connection that hangs before it takes all of a run
// (a Lambda function has 15 minutes at most).
const defaultTimeout = 30 * time.Second

// Client is AWS Lambda in one region of one account. It is safe for concurrent use.
type Client struct {
	lambda  *lambda.Client
	tagging *resourcegroupstaggingapi.Client
	sts     *sts.Client
	region  string

	pageSize int32
	timeout  time.Duration
	log      *slog.Logger
	retryer  aws.RetryerV2

	control, getFunction, tag *rate.Limiter // nil: no limit
	sayDenied                 sync.Once
}

var _ registrator.Functions = (*Client)(nil)

// New returns a Client. It touches no network.
func New(cfg Config) *Client {
	return &Client{
		lambda:      lambda.NewFromConfig(cfg.AWS),
		tagging:     resourcegroupstaggingapi.NewFromConfig(cfg.AWS),
		sts:         sts.NewFromConfig(cfg.AWS),
		region:      cfg.AWS.Region,
		pageSize:    int32(min(cmp.Or(cfg.PageSize, mostAny), mostAny)),
		timeout:     cmp.Or(cfg.Timeout, defaultTimeout),
		log:         cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		retryer:     newRetryer(maxBackoff),
		control:     limiter(cfg.Rates.Control, awsControl),
		getFunction: limiter(cfg.Rates.GetFunction, awsGetFunction),
		tag:         limiter(cfg.Rates.Tagging, awsTagging),
	}
}

// call prepares one call of an operation; c says which.
func (a *Client) call(c call) call {
	c.RetryerV2, c.tries = a.retryer, new(atomic.Int32)
	return c
}

// bound returns the context to make a call with. The caller must call the cancel function.
func (a *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, a.timeout)
}
