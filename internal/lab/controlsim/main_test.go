// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server and the clients of its three services. The clients try once, but for a defect of their own: what the SDK makes of
// a second try is its own business.
type world struct {
	*Server
	lambda  *lambda.Client
	tagging *resourcegroupstaggingapi.Client
	sts     *sts.Client
}

func start(t testing.TB, cfg Config) *world {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c := clientConfig(t, s, "AKIDTEST", "")
	return &world{s, lambda.NewFromConfig(c), resourcegroupstaggingapi.NewFromConfig(c), sts.NewFromConfig(c)}
}

func clientConfig(t testing.TB, s *Server, accessKey, token string) aws.Config {
	t.Helper()
	return aws.Config{
		Region:       s.account.Region,
		BaseEndpoint: aws.String(s.URL()),
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, "secret", token),
		HTTPClient:   httpClient(t),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.Retryables, o.Backoff = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(cutByItself)}, retry.NewExponentialJitterBackoff(time.Millisecond)
			})
		},
	}
}

// cutByItself finds what a server that answers at once can do to the SDK: it closes the request's body when the answer begins, while
// net/http may still be about to look for that body's end, and then ends the connection below the answer.
func cutByItself(err error) aws.Ternary { return aws.BoolTernary(errors.Is(err, net.ErrClosed)) }

func httpClient(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// mailbox is a receiver of events.
type mailbox struct {
	mu     sync.Mutex
	events []event
}

// event is what tests look at of one.
type event struct {
	Version, ID, Source, Account, Time, Region string
	DetailType                                 string `json:"detail-type"`
	Resources                                  []string
	Detail                                     struct {
		EventSource, EventName, AWSRegion, EventTime string
		ErrorCode, ErrorMessage                      string
		RequestParameters, ResponseElements          map[string]any
		UserIdentity                                 struct{ ARN string }
		ReadOnly                                     bool
	}
}

func (m *mailbox) receive(body []byte) {
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		panic(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
}

// all waits for the events so far and takes them.
func (m *mailbox) all(t testing.TB, w *world) []event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := w.WaitEvents(ctx); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.events
	m.events = nil
	return out
}

func names(events []event) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.Detail.EventName)
	}
	return out
}

// code is the error's code as the SDK has it, with its HTTP status. "": no error; "-": not an answer of the service.
func code(err error) string {
	if err == nil {
		return ""
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return "-"
	}
	status, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int
	}](err)
	if !ok {
		return api.ErrorCode()
	}
	return fmt.Sprint(status.HTTPStatusCode(), " ", api.ErrorCode())
}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// many are n functions, f00000 and on; every fifth has the tag enabled.
func many(n int) []Function {
	out := make([]Function, n)
	for i := range out {
		out[i].Name = fmt.Sprintf("f%05d", i)
		if i%5 == 0 {
			out[i].Tags = map[string]string{"enabled": fmt.Sprint(i%10 == 0)}
		}
	}
	return out
}
