// SPDX-License-Identifier: MPL-2.0

package lambdaapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	taggingtypes "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi/types"
	"golang.org/x/sync/errgroup"

	"github.com/consul-lambda/consul-lambda/registrator"
)

const (
	// mostTagged is the most that GetResources gives at once.
	mostTagged = 100
	// mostAny is the most that ListFunctions gives at once, whatever is asked.
	mostAny = 50
	// parallel reads keep a rate of 33/s busy at up to half a second each.
	parallel = 16
)

// List gives all functions with the tag that enables, in a page for each 100 of them. Where the role may not use the tagging API it
// looks at functions of any kind instead, 50 a page, from the cursor on, for at most half of the time until ctx's deadline, as what
// is held already has to be renewed in the rest (G8, G9): at least one page, or an error. A cursor of a look that has been overtaken
// by a permitted tagging API is ignored.
func (a *Client) List(ctx context.Context, from string) (registrator.Listing, error) {
	functions, err := a.listTagged(ctx)
	switch {
	case err == nil:
		return registrator.Listing{Functions: functions}, nil
	case !errors.Is(err, errDenied):
		return registrator.Listing{}, err
	}
	a.sayDenied.Do(func() {
		a.log.Warn("tagging api not permitted, reading every function instead",
			"error", err, "remedy", "allow the role tag:GetResources on *")
	})
	return a.listAny(ctx, from)
}

func (a *Client) listTagged(ctx context.Context) ([]registrator.Function, error) {
	functions, err := a.listTaggedOnce(ctx)
	var expired *taggingtypes.PaginationTokenExpiredException
	if errors.As(err, &expired) {
		// Pages of two looks are never joined: a function may have moved between them.
		functions, err = a.listTaggedOnce(ctx)
	}
	return functions, err
}

func (a *Client) listTaggedOnce(ctx context.Context) ([]registrator.Function, error) {
	var (
		functions []registrator.Function
		seen      = make(map[registrator.ARN]bool)
		token     string
	)
	for {
		out, err := a.taggedPage(ctx, token)
		if err != nil {
			return nil, err
		}
		for _, r := range out.ResourceTagMappingList {
			arn, err := registrator.ParseARN(aws.ToString(r.ResourceARN))
			if err != nil {
				return nil, fmt.Errorf("GetResources: %w", err)
			}
			if seen[arn] { // what is tagged while pages are read may show on two of them
				continue
			}
			seen[arn] = true
			tags := make(map[string]string, len(r.Tags))
			for _, t := range r.Tags {
				tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
			}
			functions = append(functions, registrator.Function{ARN: arn, Tags: tags})
		}
		if token = aws.ToString(out.PaginationToken); token == "" {
			return functions, nil
		}
	}
}

func (a *Client) taggedPage(ctx context.Context, token string) (*resourcegroupstaggingapi.GetResourcesOutput, error) {
	c := a.call(call{limiter: a.tag, op: "GetResources", about: "of lambda:function", permission: "tag:GetResources on *"})
	ctx, cancel := a.bound(ctx)
	defer cancel()
	in := &resourcegroupstaggingapi.GetResourcesInput{
		ResourceTypeFilters: []string{"lambda:function"},
		ResourcesPerPage:    aws.Int32(mostTagged),
		TagFilters:          []taggingtypes.TagFilter{{Key: aws.String(registrator.TagEnabled)}},
	}
	if token != "" {
		in.PaginationToken = &token
	}
	out, err := a.tagging.GetResources(ctx, in, func(o *resourcegroupstaggingapi.Options) { o.Retryer = c })
	var expired *taggingtypes.PaginationTokenExpiredException
	switch {
	case errors.As(err, &expired):
		return nil, fmt.Errorf("%w: %w", failed(c, err), expired)
	case err != nil:
		return nil, failed(c, err)
	}
	return out, nil
}

// listAny looks at all functions from a marker on. It stops between pages when another one might end in the second half of the time
// until the deadline.
func (a *Client) listAny(ctx context.Context, from string) (registrator.Listing, error) {
	var (
		listing = registrator.Listing{Next: from}
		longest time.Duration // of a page
		end     time.Time     // zero: none
	)
	if deadline, ok := ctx.Deadline(); ok {
		end = time.Now().Add(time.Until(deadline) / 2)
	}
	for {
		start := time.Now()
		page, next, err := a.anyPage(ctx, listing.Next)
		var badMarker *lambdatypes.InvalidParameterValueException
		if longest == 0 && from != "" && errors.As(err, &badMarker) {
			from, listing.Next = "", "" // a cursor that AWS has forgotten
			continue
		}
		if err != nil {
			if longest > 0 && errors.Is(err, context.DeadlineExceeded) {
				a.log.Info("look at functions stopped at its deadline", "functions", len(listing.Functions), "error", err)
				return listing, nil
			}
			return registrator.Listing{}, err
		}
		longest = max(longest, time.Since(start))
		listing.Functions = append(listing.Functions, page...)
		if listing.Next = next; next == "" {
			return listing, nil
		}
		if !end.IsZero() && time.Until(end) < longest {
			a.log.Info("look at functions stopped to leave time for the rest", "functions", len(listing.Functions))
			return listing, nil
		}
	}
}

// anyPage reads the functions of one page of ListFunctions, with their tags. One that is deleted meanwhile is left out.
func (a *Client) anyPage(ctx context.Context, marker string) (page []registrator.Function, next string, err error) {
	names, next, err := a.names(ctx, marker)
	if err != nil {
		return nil, "", err
	}
	found := make([]registrator.Function, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, name := range names {
		g.Go(func() (err error) {
			if found[i], err = a.Get(ctx, name); errors.Is(err, registrator.ErrNoFunction) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, "", err
	}
	for _, f := range found {
		if f.ARN != (registrator.ARN{}) {
			page = append(page, f)
		}
	}
	return page, next, nil
}

func (a *Client) names(ctx context.Context, marker string) (names []string, next string, err error) {
	c := a.call(call{limiter: a.control, op: "ListFunctions", about: "of " + a.region, permission: "lambda:ListFunctions on *"})
	ctx, cancel := a.bound(ctx)
	defer cancel()
	in := &lambda.ListFunctionsInput{MaxItems: aws.Int32(a.pageSize)}
	if marker != "" {
		in.Marker = &marker
	}
	out, err := a.lambda.ListFunctions(ctx, in, func(o *lambda.Options) { o.Retryer = c })
	var bad *lambdatypes.InvalidParameterValueException
	switch {
	case errors.As(err, &bad):
		return nil, "", fmt.Errorf("%w: %w", failed(c, err), bad)
	case err != nil:
		return nil, "", failed(c, err)
	}
	for _, f := range out.Functions {
		names = append(names, aws.ToString(f.FunctionName))
	}
	return names, aws.ToString(out.NextMarker), nil
}
