// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	taggingtypes "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// get, list and whoami are one call of each service, by their errors.
func (w *world) get(t testing.TB, name string) error {
	t.Helper()
	_, err := w.lambda.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String(name)})
	return err
}

func (w *world) list(t testing.TB) error {
	t.Helper()
	_, err := w.tagging.GetResources(t.Context(), &resourcegroupstaggingapi.GetResourcesInput{})
	return err
}

func (w *world) whoami(t testing.TB) error {
	t.Helper()
	_, err := w.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	return err
}

func TestEveryServiceFailsInItsOwnForm(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.AddFunction("f", nil)
	for what, c := range map[string]struct {
		fault                Fault
		lambda, tagging, sts string
	}{
		"throttled":     {Throttled(), "429 TooManyRequestsException", "400 ThrottledException", "400 Throttling"},
		"denied":        {AccessDenied(), "403 AccessDeniedException", "400 AccessDeniedException", "403 AccessDenied"},
		"broken":        {InternalError(), "500 ServiceException", "500 InternalServiceException", "500 InternalFailure"},
		"expired":       {ExpiredToken(), "403 ExpiredTokenException", "400 ExpiredTokenException", "403 ExpiredToken"},
		"unknown":       {UnrecognizedClient(), "403 UnrecognizedClientException", "400 UnrecognizedClientException", "403 InvalidClientTokenId"},
		"page expired":  {PaginationExpired(), "400 InvalidParameterValueException", "400 PaginationTokenExpiredException", "400 PaginationTokenExpiredException"},
		"anything else": {Error(400, "ThrottlingException", "x"), "400 ThrottlingException", "400 ThrottlingException", "400 ThrottlingException"},
		"a proxy":       {Raw(502, "text/html", "<p>not here</p>"), "-", "-", "-"},
		"reset":         {Reset(), "-", "-", "-"},
		"truncated":     {Truncate(), "-", "-", "-"},
	} {
		w.FailAll("", c.fault)
		for service, got := range map[string][2]string{
			"lambda": {code(w.get(t, "f")), c.lambda}, "tagging": {code(w.list(t)), c.tagging}, "sts": {code(w.whoami(t)), c.sts},
		} {
			if got[0] != got[1] && (got[1] != "-" || got[0] == "") {
				t.Errorf("%s: %s is answered %q, want %q", what, service, got[0], got[1])
			}
		}
		w.Heal()
		if err := w.get(t, "f"); err != nil {
			t.Errorf("%s, healed: %v", what, err)
		}
	}
	w.FailNext("GetFunction", 1, Throttled())
	throttled, ok := errors.AsType[*lambdatypes.TooManyRequestsException](w.get(t, "f"))
	if !ok || throttled.Reason != lambdatypes.ThrottleReasonCallerRateLimitExceeded {
		t.Errorf("a throttled call says %+v", throttled)
	}
	w.FailNext("GetResources", 1, Throttled())
	if _, ok := errors.AsType[*taggingtypes.ThrottledException](w.list(t)); !ok {
		t.Error("the SDK does not know the tagging API's throttling")
	}
	w.FailAll("GetFunction", Reset())
	if err := w.get(t, "f"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a reset is %v", err)
	}
}

func TestFaultsHitWhatTheyTarget(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.AddFunctions(many(250)...)
	hits := func(n int, call func() error) []int {
		var out []int
		for i := range n {
			if call() != nil {
				out = append(out, i+1)
			}
		}
		return out
	}
	w.FailAt("GetFunction", 3, InternalError())
	if got := hits(5, func() error { return w.get(t, "f00000") }); !slices.Equal(got, []int{3}) {
		t.Errorf("the third call: hit %v", got)
	}
	w.Fail(Target{Op: "GetFunction", Name: "f00001"}, Throttled())
	if a, b, c := w.get(t, "f00000"), w.get(t, w.ARN("f00001")), w.get(t, "f00001"); a != nil || b == nil || c == nil {
		t.Errorf("one function's calls: %v, %v, %v", a, b, c)
	}
	w.Heal()
	if err := w.get(t, "f00001"); err != nil {
		t.Errorf("healed: %v", err)
	}
	// A retry of the page is cut as well.
	w.Fail(Target{Op: "GetResources", Page: 2}, Truncate())
	p := resourcegroupstaggingapi.NewGetResourcesPaginator(w.tagging, &resourcegroupstaggingapi.GetResourcesInput{ResourcesPerPage: aws.Int32(20)})
	var pages []bool
	for range 3 {
		_, err := p.NextPage(t.Context())
		pages = append(pages, err == nil)
	}
	if !slices.Equal(pages, []bool{true, false, false}) {
		t.Errorf("pages come as %v", pages)
	}
	w.Heal()
	w.Fail(Target{Op: "ListFunctions", Page: 3}, InternalError())
	n := 0
	for lp := lambda.NewListFunctionsPaginator(w.lambda, &lambda.ListFunctionsInput{}); lp.HasMorePages(); n++ {
		if _, err := lp.NextPage(t.Context()); err != nil {
			break
		}
	}
	if n != 2 {
		t.Errorf("ListFunctions gave %d pages before the third was to fail", n)
	}
}

// G9: the limits are by family, as in AWS.
func TestRatesAreLimitedByFamily(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Limits: AWSLimits()})
	w.AddFunction("f", nil)
	refused := func(n int, call func() error) (out int) {
		for range n {
			switch got := code(call()); {
			case strings.HasPrefix(got, "429 TooManyRequests") || got == "400 ThrottledException":
				out++
			case got != "":
				t.Errorf("answered %q", got)
			}
		}
		return out
	}
	listTags := func() error {
		_, err := w.lambda.ListTags(t.Context(), &lambda.ListTagsInput{Resource: aws.String(w.ARN("f"))})
		return err
	}
	aliases := func() error {
		_, err := w.lambda.ListAliases(t.Context(), &lambda.ListAliasesInput{FunctionName: aws.String("f")})
		return err
	}
	// The bound holds as long as the calls take less than ten seconds, on the slowest machine: 15 come back each second.
	if got := refused(10, listTags) + refused(200, aliases); got == 0 || got > 200-5 {
		t.Errorf("%d of 210 calls past the 15 of Lambda were refused", got)
	}
	if got := refused(1, func() error { return w.get(t, "f") }) + refused(1, func() error { return w.list(t) }); got != 0 {
		t.Error("the families share a bucket")
	}
	w.SetLimits(Limits{GetFunction: 1, Tagging: 1})
	if got := refused(200, func() error { return w.get(t, "f") }); got < 100 {
		t.Errorf("%d of 200 calls of GetFunction were refused at 1 a second", got)
	}
	if got := refused(200, func() error { return w.list(t) }); got < 100 {
		t.Errorf("%d of 200 calls of GetResources were refused at 1 a second", got)
	}
	if got := refused(100, listTags); got != 0 {
		t.Errorf("%d calls were refused without a limit", got)
	}
	if err := w.whoami(t); err != nil {
		t.Errorf("STS is limited: %v", err)
	}
}

// G9: what bounded concurrency is proven with.
func TestTheHighWaterMarkIsTheClientsConcurrency(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Latency: 20 * time.Millisecond})
	w.AddFunction("f", nil)
	begin := time.Now()
	for _, n := range []int{1, 7, 3} {
		w.ResetCalls()
		var wg sync.WaitGroup
		hold := make(chan struct{})
		for range n {
			wg.Go(func() {
				<-hold
				for range 3 {
					_ = w.get(t, "f")
				}
			})
		}
		close(hold)
		_ = w.whoami(t)
		wg.Wait()
		if got := w.MaxInFlight("GetFunction"); got > n || n == 1 && got != 1 || n == 7 && got < 2 {
			t.Errorf("%d callers made a mark of %d", n, got)
		}
		if got, all := w.Count("GetFunction"), w.Count(""); got != 3*n || all != 3*n+1 {
			t.Errorf("counted %d of %d", got, all)
		}
	}
	if d := time.Since(begin); d < 3*3*20*time.Millisecond {
		t.Errorf("took %v, less than the latency of the calls", d)
	}
	w.ResetCalls()
	w.SetLatency("", 0)
	if got := w.MaxInFlight(""); got != 0 {
		t.Errorf("the mark of nothing is %d", got)
	}
}

func TestCloseEndsHungCalls(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.FailAll("", Hang())
	done := make(chan error, 3)
	go func() { done <- w.get(t, "f") }()
	go func() { done <- w.list(t) }()
	go func() { done <- w.whoami(t) }()
	waittest.Until(t, "three calls", func() bool { return w.Count("") == 3 })
	w.Close()
	for range cap(done) {
		if err := <-done; err == nil {
			t.Error("a hung call was answered")
		}
	}
}

func TestRequireAuthWantsTheKeyAndTheScopeOfEachService(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.AddFunction("f", nil)
	w.RequireAuth(Principal{AccessKeyID: "AKIDGOOD", SessionToken: "session"})
	good := clientConfig(t, w.Server, "AKIDGOOD", "session")
	foreign := clientConfig(t, w.Server, "AKIDGOOD", "session")
	foreign.Region = "eu-west-1"
	for what, c := range map[string]struct {
		cfg  aws.Config
		want [3]string
	}{
		"good":         {good, [3]string{}},
		"unknown":      {clientConfig(t, w.Server, "AKIDBAD", "session"), [3]string{"403 UnrecognizedClientException", "400 UnrecognizedClientException", "403 InvalidClientTokenId"}},
		"other region": {foreign, [3]string{"403 InvalidSignatureException", "400 InvalidSignatureException", "403 SignatureDoesNotMatch"}},
	} {
		client := &world{w.Server, lambda.NewFromConfig(c.cfg), resourcegroupstaggingapi.NewFromConfig(c.cfg), sts.NewFromConfig(c.cfg)}
		if got := [3]string{code(client.get(t, "f")), code(client.list(t)), code(client.whoami(t))}; got != c.want {
			t.Errorf("%s: answered %q, want %q", what, got, c.want)
		}
	}
	// A signature for one service does not open another.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL()+"/2015-03-31/functions/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]int{"lambda": 200, "tagging": 403} {
		r.Header.Set("Authorization", fmt.Sprintf(
			"AWS4-HMAC-SHA256 Credential=AKIDGOOD/20260101/us-east-1/%s/aws4_request, SignedHeaders=host, Signature=00", service))
		r.Header.Set("X-Amz-Security-Token", "session")
		resp, err := httpClient(t).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != want {
			t.Errorf("scoped to %s: answered %d", service, resp.StatusCode)
		}
	}
}

func TestWhatTheServerLacksIsRefused(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.FailAll("", Hang()) // does not matter: these are no requests of any service
	_, err := w.lambda.GetPolicy(t.Context(), &lambda.GetPolicyInput{FunctionName: aws.String("f")})
	if got := code(err); got != "403 UnknownOperationException" {
		t.Errorf("GetPolicy is answered %q", got)
	}
	_, err = w.tagging.GetTagKeys(t.Context(), &resourcegroupstaggingapi.GetTagKeysInput{})
	if got := code(err); got != "400 UnknownOperationException" {
		t.Errorf("GetTagKeys is answered %q", got)
	}
	_, err = w.sts.GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
	if got := code(err); got != "400 InvalidAction" {
		t.Errorf("GetSessionToken is answered %q", got)
	}
	if _, err := Start(Config{Addr: strings.TrimPrefix(w.URL(), "http://"), OnEvent: func([]byte) {}}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second server there: %v", err)
	}
}
