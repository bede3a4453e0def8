// SPDX-License-Identifier: MPL-2.0

package lambdaapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
)

// G2: a listing in which one thing cannot be read is an error, not a listing without it.
func TestAListingWithAnARNThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = w.Write([]byte(`{"ResourceTagMappingList":[
			{"ResourceARN":"arn:aws:lambda:us-east-1:123456789012:function:web"},{"ResourceARN":"arn:aws:lambda:us-east-1:123456789012:layer:x"}]}`))
	}))
	t.Cleanup(srv.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := New(Config{Rates: unlimited, AWS: aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(srv.URL), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDTEST", "none", ""),
	}})
	l, err := c.List(t.Context(), "")
	checkError(t, err, nil, "GetResources", "layer:x")
	if len(l.Functions) != 0 {
		t.Errorf("%d functions beside the error", len(l.Functions))
	}
}

// G9: a call for which the rate leaves no time until the context's end is not made, and fails at once.
func TestACallForWhichTheRateLeavesNoTimeIsNotMade(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	srv.AddFunction("fn", nil)
	c := open(t, srv, Config{Rates: Rates{GetFunction: 0.001}}) // a call now, the next in 1,000 s
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Get(ctx, "fn"); err != nil {
		t.Fatal(err)
	}
	_, err := c.Get(ctx, "fn")
	checkError(t, err, context.DeadlineExceeded, "GetFunction fn")
	if n := srv.Count("GetFunction"); n != 1 || ctx.Err() != nil {
		t.Errorf("%d calls, context: %v", n, ctx.Err())
	}
}
