// SPDX-License-Identifier: MPL-2.0

package lambdaapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
	"github.com/consul-lambda/consul-lambda/registrator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var unlimited = Rates{Control: -1, GetFunction: -1, Tagging: -1}

func start(t testing.TB, cfg controlsim.Config) *controlsim.Server {
	t.Helper()
	srv, err := controlsim.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

func open(t testing.TB, srv *controlsim.Server, cfg Config, wrap ...func(*http.Transport) http.RoundTripper) *Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: parallel}
	t.Cleanup(transport.CloseIdleConnections)
	var through http.RoundTripper = transport
	for _, w := range wrap {
		through = w(transport)
	}
	cfg.AWS = aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(srv.URL()),
		Credentials:  credentials.NewStaticCredentialsProvider("AKIDTEST", "none", ""),
		HTTPClient:   &http.Client{Transport: through},
	}
	if cfg.Rates == (Rates{}) {
		cfg.Rates = unlimited
	}
	return New(cfg)
}

// fill adds n functions with the tag that enables, and n without.
func fill(srv *controlsim.Server, n int) {
	for i := range n {
		srv.AddFunction(fmt.Sprintf("on-%04d", i), map[string]string{registrator.TagEnabled: "true", "team": "shop"})
		srv.AddFunction(fmt.Sprintf("plain-%04d", i), map[string]string{"team": "shop"})
	}
}

func names(fs []registrator.Function) map[string]map[string]string {
	out := make(map[string]map[string]string)
	for _, f := range fs {
		out[f.ARN.Name()] = f.Tags
	}
	return out
}

// checkError says that err wraps the sentinel, if there is one, and has all the texts.
func checkError(t testing.TB, err, sentinel error, texts ...string) {
	t.Helper()
	if err == nil || sentinel != nil && !errors.Is(err, sentinel) {
		t.Fatalf("got %v, want %v", err, sentinel)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

// G11, and the budget of a quiet run: a call for each hundred enabled functions.
func TestListGivesTheTaggedFunctionsAHundredACall(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	fill(srv, 250)
	l, err := open(t, srv, Config{}).List(t.Context(), "a cursor of another time")
	if err != nil {
		t.Fatal(err)
	}
	if got := names(l.Functions); len(l.Functions) != 250 || len(got) != 250 || got["on-0249"]["team"] != "shop" || l.Next != "" {
		t.Errorf("%d functions of %d names, next %q", len(l.Functions), len(got), l.Next)
	}
	if n := srv.Count(""); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

func TestListGoesOnPastShortAndEmptyPages(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{TaggingScan: 3})
	fill(srv, 10)
	if l, err := open(t, srv, Config{}).List(t.Context(), ""); err != nil || len(names(l.Functions)) != 10 {
		t.Errorf("%d functions, %v", len(l.Functions), err)
	}
}

// G2: a listing that fails in its middle is not a shorter one.
func TestAListingThatFailsOnALaterPageIsAnError(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	fill(srv, 150)
	srv.FailAt("GetResources", 2, controlsim.ExpiredToken())
	l, err := open(t, srv, Config{}).List(t.Context(), "")
	checkError(t, err, nil, "GetResources", "ExpiredToken")
	if len(l.Functions) != 0 {
		t.Errorf("%d functions beside the error", len(l.Functions))
	}
}

func TestAListingWhoseTokenExpiresBeginsAgainOnce(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	fill(srv, 150)
	srv.FailAt("GetResources", 2, controlsim.PaginationExpired())
	l, err := open(t, srv, Config{}).List(t.Context(), "")
	if err != nil || len(l.Functions) != 150 || srv.Count("GetResources") != 4 {
		t.Errorf("%d functions after %d calls, %v", len(l.Functions), srv.Count("GetResources"), err)
	}
	srv.FailAll("GetResources", controlsim.PaginationExpired())
	srv.ResetCalls()
	_, err = open(t, srv, Config{}).List(t.Context(), "")
	checkError(t, err, nil, "PaginationTokenExpiredException")
	if n := srv.Count("GetResources"); n != 2 {
		t.Errorf("%d calls", n)
	}
}

// G11: without the tagging API every function is read, and the log says what to allow, once.
func TestListFallsBackWhereTheTaggingAPIIsNotPermitted(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	fill(srv, 60)
	srv.Deny("tag:GetResources")
	var log bytes.Buffer
	c := open(t, srv, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 2 {
		l, err := c.List(t.Context(), "")
		if got := names(l.Functions); err != nil || len(got) != 120 || got["on-0001"][registrator.TagEnabled] != "true" || l.Next != "" {
			t.Fatalf("%d functions, next %q, %v", len(got), l.Next, err)
		}
	}
	if text := log.String(); strings.Count(text, "not permitted") != 1 || !strings.Contains(text, "allow the role tag:GetResources on *") {
		t.Errorf("log: %s", text)
	}
	srv.Allow("tag:GetResources")
	if l, err := c.List(t.Context(), ""); err != nil || len(l.Functions) != 60 {
		t.Errorf("permitted again: %d functions, %v", len(l.Functions), err)
	}
}

// G8, G9, G11: the fallback leaves half of the time to the rest of the run, and goes on from there in the next one.
func TestTheFallbackTakesHalfOfTheTimeAndGoesOnFromThere(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	fill(srv, 60)
	srv.Deny("tag:GetResources")
	synctest.Test(t, func(t *testing.T) { testFallback(t, srv) })
}

// testFallback runs in virtual time, which stands still while a connection is open: the server's latency is in the transport, and each
// request has a connection of its own.
func testFallback(t *testing.T, srv *controlsim.Server) {
	t.Helper()
	c := open(t, srv, Config{}, func(transport *http.Transport) http.RoundTripper {
		transport.DisableKeepAlives = true
		return slowFunctions{transport}
	})
	seen := make(map[string]bool)
	cursor, looks := "", 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // enough for three pages, and half of it for one
		l, err := c.List(ctx, cursor)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		looks++
		for name := range names(l.Functions) {
			if seen[name] {
				t.Errorf("%s twice", name)
			}
			seen[name] = true
		}
		if cursor = l.Next; cursor == "" {
			break
		}
	}
	if len(seen) != 120 || looks != 3 {
		t.Errorf("%d functions in %d looks", len(seen), looks)
	}
}

// slowFunctions takes 100 ms for each GetFunction: four rounds of them make a page.
type slowFunctions struct{ http.RoundTripper }

func (s slowFunctions) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := s.RoundTripper.RoundTrip(r)
	if err != nil || !strings.Contains(r.URL.Path, "/functions/on-") && !strings.Contains(r.URL.Path, "/functions/plain-") {
		return response, err
	}
	body, err := io.ReadAll(response.Body) // so that the connection ends
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	time.Sleep(100 * time.Millisecond)
	return response, err
}

func TestTheFallbackBeginsAgainWhenItsCursorIsForgotten(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	fill(srv, 2)
	srv.Deny("tag:GetResources")
	if l, err := open(t, srv, Config{}).List(t.Context(), "forgotten"); err != nil || len(l.Functions) != 4 {
		t.Errorf("%d functions, %v", len(l.Functions), err)
	}
}

// G2: in the fallback too.
func TestTheFallbackFailsWhenAFunctionCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*controlsim.Server){
		"tags are not shown":    func(s *controlsim.Server) { s.Deny("lambda:ListTags") },
		"one read is refused":   func(s *controlsim.Server) { s.FailAt("GetFunction", 2, controlsim.AccessDenied()) },
		"the listing is denied": func(s *controlsim.Server) { s.Deny("lambda:ListFunctions") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t, controlsim.Config{})
			fill(srv, 2)
			srv.Deny("tag:GetResources")
			spoil(srv)
			l, err := open(t, srv, Config{}).List(t.Context(), "")
			checkError(t, err, errDenied, "lambda:")
			if len(l.Functions) != 0 {
				t.Errorf("%d functions beside the error", len(l.Functions))
			}
		})
	}
}

func TestGetReadsAFunctionAnew(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	srv.AddFunction("fn", map[string]string{registrator.TagEnabled: "true"})
	f, err := open(t, srv, Config{}).Get(t.Context(), "fn")
	want := registrator.Owner{Partition: "aws", Region: "us-east-1", Account: "123456789012"}
	if err != nil || f.ARN.Name() != "fn" || f.ARN.Owner() != want || f.Tags[registrator.TagEnabled] != "true" {
		t.Errorf("%+v, %v", f, err)
	}
}

// G2, G7: one code of AWS means that there is no such function, and nothing else does.
func TestOnlyResourceNotFoundMeansThatThereIsNoFunction(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	c := open(t, srv, Config{})
	_, err := c.Get(t.Context(), "fn")
	checkError(t, err, registrator.ErrNoFunction, "fn")

	srv.AddFunction("fn", map[string]string{registrator.TagEnabled: "true"})
	for name, fault := range map[string]controlsim.Fault{
		"another 404":          controlsim.Error(404, "NotFoundException", "no such page"),
		"a 404 of a proxy":     controlsim.Raw(404, "text/html", "<html>not found</html>"),
		"a 404 without a code": controlsim.Raw(404, "application/json", "{}"),
		"a denial":             controlsim.AccessDenied(),
		"an expired token":     controlsim.ExpiredToken(),
		"an answer cut short":  controlsim.Truncate(),
		"an empty answer":      controlsim.Raw(200, "application/json", "{}"),
		"somebody else's":      controlsim.Raw(200, "application/json", `{"Configuration":{"FunctionArn":"`+srv.ARN("other")+`"}}`),
	} {
		srv.FailAll("GetFunction", fault)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // no time for retries
		if _, err := c.Get(ctx, "fn"); err == nil || errors.Is(err, registrator.ErrNoFunction) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		srv.Heal()
	}
}

// The predecessor takes a function whose tags it may not see for an untagged one, and deregisters it.
func TestTagsThatAreNotShownAreAnError(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	srv.AddFunction("fn", map[string]string{registrator.TagEnabled: "true"})
	srv.Deny("lambda:ListTags")
	f, err := open(t, srv, Config{}).Get(t.Context(), "fn")
	checkError(t, err, errDenied, "lambda:ListTags on fn")
	if f.Tags != nil {
		t.Error("a function beside the error")
	}
	srv.Deny("lambda:GetFunction")
	_, err = open(t, srv, Config{}).Get(t.Context(), "fn")
	checkError(t, err, errDenied, "lambda:GetFunction on fn")
}

// G9: throttling is tried again within the context, and an error says how often.
func TestThrottlingIsTriedAgainWithinTheContext(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	srv.AddFunction("fn", map[string]string{registrator.TagEnabled: "true"})
	c := open(t, srv, Config{})
	c.retryer = newRetryer(time.Millisecond)
	srv.FailNext("GetFunction", 2, controlsim.Throttled())
	if _, err := c.Get(t.Context(), "fn"); err != nil || srv.Count("GetFunction") != 3 {
		t.Errorf("%d calls, %v", srv.Count("GetFunction"), err)
	}
	srv.FailAll("GetFunction", controlsim.Throttled())
	srv.ResetCalls()
	c.retryer = newRetryer(time.Millisecond)
	_, err := c.Get(t.Context(), "fn")
	checkError(t, err, nil, fmt.Sprintf("tried %d times", maxTries), "TooManyRequestsException")
	if n := srv.Count("GetFunction"); n != maxTries {
		t.Errorf("%d calls", n)
	}
	c.retryer = newRetryer(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Get(ctx, "fn")
	checkError(t, err, nil, "GetFunction fn")
}

// G9: a third of what AWS allows, retries included.
func TestCallsKeepToTheirRate(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	srv.AddFunction("fn", map[string]string{registrator.TagEnabled: "true"})
	c := open(t, srv, Config{Rates: Rates{GetFunction: 20}})
	begin := time.Now()
	for range 24 {
		if _, err := c.Get(t.Context(), "fn"); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 150*time.Millisecond {
		t.Errorf("24 calls at 20/s with a burst of 20 took %v", took)
	}
}

func TestAZeroRateIsAThirdOfWhatAWSAllows(t *testing.T) {
	t.Parallel()
	if l := limiter(0, awsControl); l.Limit() != 5 || l.Burst() != 5 {
		t.Errorf("%v, burst %d", l.Limit(), l.Burst())
	}
	if limiter(-1, awsControl) != nil {
		t.Error("a negative rate limits")
	}
}

func TestAHangingCallEndsAfterItsTimeout(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	srv.FailAll("GetFunction", controlsim.Hang())
	_, err := open(t, srv, Config{Timeout: 100 * time.Millisecond}).Get(t.Context(), "fn")
	checkError(t, err, context.DeadlineExceeded, "GetFunction fn")
}

// R18: an answer has the environment variables of the function, an error must not.
func TestAnErrorHoldsNothingOfTheAnswer(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{})
	for _, body := range []string{
		`{"Configuration":{"Environment":{"Variables":{"PASSWORD":"hunter2"}},"FunctionArn":7}}`,
		`{"Configuration":{"Environment":{"Variables":"hunter2`,
		`{"Configuration":{"Environment":"hunter2"}}`,
		`hunter2`,
	} {
		srv.FailAll("GetFunction", controlsim.Raw(200, "application/json", body))
		if _, err := open(t, srv, Config{}).Get(t.Context(), "fn"); err == nil || strings.Contains(fmt.Sprintf("%+v", err), "hunter2") {
			t.Errorf("%s: %v", body, err)
		}
		srv.Heal()
	}
}

func TestWhoAmIIsTheCallersAccount(t *testing.T) {
	t.Parallel()
	srv := start(t, controlsim.Config{Region: "us-gov-west-1", Account: "210987654321"})
	c := open(t, srv, Config{})
	got, err := c.WhoAmI(t.Context())
	want := registrator.Owner{Partition: "aws-us-gov", Region: "us-east-1", Account: "210987654321"} // the region is the client's
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	srv.FailAll("GetCallerIdentity", controlsim.ExpiredToken())
	_, err = c.WhoAmI(t.Context())
	checkError(t, err, nil, "GetCallerIdentity", "Expired")
}
