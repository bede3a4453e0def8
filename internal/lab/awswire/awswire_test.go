// SPDX-License-Identifier: MPL-2.0

package awswire

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves GET /OP/NAME/PAGE, which answers its name.
func start(t testing.TB) *Server {
	t.Helper()
	s, err := Start(Config{Read: func(r *http.Request, _ []byte) Request {
		out := Request{Service: "lab", Protocol: RESTJSON}
		_, _ = fmt.Sscanf(strings.ReplaceAll(r.URL.Path, "/", " "), "%s %s %d", &out.Op, &out.Name, &out.Page)
		out.Action = "lab:" + out.Op
		out.Do = func() (any, *Failure) {
			if out.Name == "nothing" {
				return nil, nil
			}
			return out.Name, nil
		}
		return out
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// get is the answer's status and body, or the error.
func get(t testing.TB, s *Server, path string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "error"
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "error"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, b))
}

func TestAFaultHitsWhatItsTargetSays(t *testing.T) {
	t.Parallel()
	paths := []string{"/a/x/1", "/a/x/2", "/b/x/1", "/a/y/1", "/a/x/1", "/a/x/1"}
	for what, c := range map[string]struct {
		targets []Target
		want    []int // which of the paths fail
	}{
		"everything":            {[]Target{{}}, []int{0, 1, 2, 3, 4, 5}},
		"an operation":          {[]Target{{Op: "b"}}, []int{2}},
		"a name":                {[]Target{{Name: "y"}}, []int{3}},
		"a page":                {[]Target{{Page: 2}}, []int{1}},
		"all of it":             {[]Target{{Op: "a", Name: "x", Page: 1}}, []int{0, 4, 5}},
		"the second of them":    {[]Target{{Op: "a", Name: "x", Page: 1, Skip: 1, Times: 1}}, []int{4}},
		"two":                   {[]Target{{Op: "a", Times: 2}}, []int{0, 1}},
		"one after the other":   {[]Target{{Times: 1}, {Skip: 1, Times: 1}}, []int{0, 2}},
		"what is not there":     {[]Target{{Op: "c"}}, nil},
		"more than there are":   {[]Target{{Op: "b", Skip: 1}}, nil},
		"the earlier plan wins": {[]Target{{Op: "a", Name: "y"}, {Name: "y", Times: 1}}, []int{3}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for _, target := range c.targets {
				s.Fail(target, Raw(418, "text/plain", ""))
			}
			var got []int
			for i, path := range paths {
				if get(t, s, path) == "418" {
					got = append(got, i)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("hit %v, want %v", got, c.want)
			}
		})
	}
}

func TestAnAnswerWithoutABodyCanBeCutToo(t *testing.T) {
	t.Parallel()
	s := start(t)
	if got := get(t, s, "/a/nothing/0"); got != "204" {
		t.Errorf("answered %q", got)
	}
	s.FailAll("", Truncate())
	for _, path := range []string{"/a/nothing/0", "/a/something/0"} {
		if got := get(t, s, path); got != "error" {
			t.Errorf("cut it is %q", got)
		}
	}
	s.RequireAuth(Principal{AccessKeyID: "AKID"})
	if got := get(t, s, "/a/something/0"); !strings.HasPrefix(got, "403 ") {
		t.Errorf("a failure is %q", got)
	}
}

func TestAPrincipalMayDoWhatItsPolicyAllows(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.RequireAuth(Principal{AccessKeyID: "AKID", May: func(action, _ string) bool { return action == "lab:read" }})
	for path, want := range map[string]string{"/read/x/0": "200 ", "/write/x/0": "403 "} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/lab/aws4_request, SignedHeaders=host, Signature=0")
		r.Close = true
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := fmt.Sprintf("%d %s", resp.StatusCode, b); err != nil || !strings.HasPrefix(got, want) || want == "403 " && !strings.Contains(got, "lab:write") {
			t.Errorf("%s is answered %q, %v, want %s", path, got, err, want)
		}
	}
}

func TestTheMarkCountsWhatIsUnderWayAtOneTime(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.FailAll("", Hang())
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, op := range []string{"a", "a", "b"} {
		wg.Go(func() { get(t, s, "/"+op+"/x/1") })
	}
	waittest.Within(waittest.Patience, func() bool { return s.Count("") == 3 })
	if a, b, all := s.MaxInFlight("a"), s.MaxInFlight("b"), s.MaxInFlight(""); a != 2 || b != 1 || all != 3 {
		t.Errorf("marks of %d, %d and %d", a, b, all)
	}
	s.ResetCalls()
	if all, calls := s.MaxInFlight(""), s.Count(""); all != 3 || calls != 0 {
		t.Errorf("after a reset, while they hang: a mark of %d, %d calls", all, calls)
	}
	s.Close()
	if all := s.MaxInFlight("c"); all != 0 {
		t.Errorf("a mark of %d for nothing", all)
	}
}

func TestFailuresHaveTheFormOfTheirProtocol(t *testing.T) {
	t.Parallel()
	f := &Failure{Status: 429, Namespace: "com.lab", Code: "Slow", Message: "<down>", Reason: "Rate"}
	var json11, rest map[string]string
	r := JSON11.failure(f)
	if err := json.Unmarshal(r.body, &json11); err != nil || json11["__type"] != "com.lab#Slow" || json11["message"] != "<down>" || r.errorType != "Slow" {
		t.Errorf("JSON 1.1: %s, %v", r.body, err)
	}
	r = RESTJSON.failure(f)
	if err := json.Unmarshal(r.body, &rest); err != nil || rest["message"] != "<down>" || rest["Reason"] != "Rate" || rest["Type"] != "User" || r.errorType != "Slow" {
		t.Errorf("REST JSON: %s, %v", r.body, err)
	}
	for status, blame := range map[int]string{429: "Sender", 500: "Receiver"} {
		f.Status = status
		var query struct {
			Error     struct{ Type, Code, Message string }
			RequestID string `xml:"RequestId"`
		}
		r = Query.failure(f)
		if err := xml.Unmarshal(r.body, &query); err != nil || query.Error.Code != "Slow" || query.Error.Type != blame || query.Error.Message != "<down>" || query.RequestID != r.requestID {
			t.Errorf("Query: %s, %v", r.body, err)
		}
	}
}

func TestAnAccountIsMadeWholeByItsRegion(t *testing.T) {
	t.Parallel()
	for region, want := range map[string]string{
		"": "arn:aws:s:us-east-1:123456789012:r", "cn-north-1": "arn:aws-cn:s:cn-north-1:123456789012:r",
		"us-gov-east-1": "arn:aws-us-gov:s:us-gov-east-1:123456789012:r",
	} {
		if got := (Account{Region: region}).Resolve().ARN("s", "r"); got != want {
			t.Errorf("region %q: %s", region, got)
		}
	}
	if got := (Account{Partition: "aws-iso", Region: "us-iso-east-1"}).Resolve().Caller; got != "arn:aws-iso:sts::123456789012:assumed-role/fn-role/fn" {
		t.Errorf("the caller is %s", got)
	}
}
