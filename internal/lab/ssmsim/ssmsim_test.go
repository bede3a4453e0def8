// SPDX-License-Identifier: MPL-2.0

package ssmsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t testing.TB) *Server {
	t.Helper()
	s, err := Start(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// object is a JSON object, as sent and as answered.
type object = map[string]any

type answer struct {
	status int
	header http.Header
	body   object
	err    error // of the transport or of reading the body
}

// code is the short error code, checked to be the same in header and body.
func (a answer) code(t testing.TB) string {
	t.Helper()
	typ, _ := a.body["__type"].(string)
	_, short, _ := strings.Cut(typ, "#")
	if h := a.header.Get("X-Amzn-ErrorType"); h != short {
		t.Errorf("error type is %q in the header and %q in the body", h, typ)
	}
	return short
}

// call makes one request on a connection of its own.
func call(t testing.TB, s *Server, op string, in object, header ...string) answer {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "AmazonSSM."+op)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, err: err}
	if err == nil {
		if err := json.Unmarshal(b, &a.body); err != nil {
			t.Errorf("answer to %s is not JSON: %v", op, err)
		}
	}
	return a
}

func put(t testing.TB, s *Server, name, value string, more object) answer {
	t.Helper()
	in := object{"Name": name, "Value": value, "Type": "SecureString", "Overwrite": true}
	for k, v := range more {
		in[k] = v
	}
	return call(t, s, "PutParameter", in)
}

func TestAnAnswerHasTheFormOfAWSJSON(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Put("/a/b", "secret")
	a := call(t, s, "GetParameter", object{"Name": "/a/b", "WithDecryption": true})
	if a.status != 200 || a.header.Get("Content-Type") != "application/x-amz-json-1.1" || len(a.header.Get("X-Amzn-RequestId")) != 36 {
		t.Errorf("got status %d, headers %v", a.status, a.header)
	}
	p := a.body["Parameter"].(object)
	if when := p["LastModifiedDate"].(float64); time.Since(time.UnixMilli(int64(when*1000))) > time.Minute {
		t.Errorf("LastModifiedDate is %v, want seconds since 1970", when)
	}
	delete(p, "LastModifiedDate")
	want := object{
		"ARN": "arn:aws:ssm:us-east-1:123456789012:parameter/a/b", "DataType": "text",
		"Name": "/a/b", "Type": "SecureString", "Value": "secret", "Version": 1.0,
	}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
	a = call(t, s, "GetParameter", object{"Name": "/a/b"})
	if v := a.body["Parameter"].(object)["Value"].(string); strings.Contains(v, "secret") {
		t.Errorf("without decryption the value is %q", v)
	}
	a = call(t, s, "GetParameter", object{"Name": "/none"})
	if want := (object{"__type": "com.amazonaws.ssm#ParameterNotFound"}); a.status != 400 || !cmp.Equal(a.body, want) {
		t.Errorf("a missing parameter is answered %d %v", a.status, a.body)
	}
	if a := call(t, s, "SendCommand", object{}); a.status != 400 || a.code(t) != "UnknownOperationException" {
		t.Errorf("an operation the server lacks is answered %d %v", a.status, a.body)
	}
}

func TestVersionsCountUpAndTheLastHundredAreKept(t *testing.T) {
	t.Parallel()
	s := start(t)
	for i := 1; i <= 101; i++ {
		if got := s.Put("/v", fmt.Sprint("value ", i)); got != int64(i) {
			t.Fatalf("put %d made version %d", i, got)
		}
	}
	for name, want := range map[string]string{"/v": "value 101", "/v:101": "value 101", "/v:2": "value 2"} {
		a := call(t, s, "GetParameter", object{"Name": name, "WithDecryption": true})
		if p := a.body["Parameter"].(object); p["Value"] != want || p["Name"] != "/v" {
			t.Errorf("%s is %v", name, p)
		}
	}
	for _, name := range []string{"/v:1", "/v:102", "/v:label"} {
		if a := call(t, s, "GetParameter", object{"Name": name}); a.code(t) != "ParameterVersionNotFound" {
			t.Errorf("%s is answered %v", name, a.body)
		}
	}
}

func TestTiersHoldWhatAWSSaysAndDoNotGoBack(t *testing.T) {
	t.Parallel()
	const gone = ""
	text := func(n int) string { return strings.Repeat("x", n) }
	steps := []struct {
		what, name, tier string
		size             int
		wantTier         string // "" for a refusal
		wantMessage      string // part of it
	}{
		{"a full Standard", "/s", "Standard", 4096, "Standard", gone},
		{"one byte more", "/s", "Standard", 4097, gone, "Standard tier parameters support"},
		{"no tier is Standard", "/n", "", 4096, "Standard", gone},
		{"no tier, too large", "/n", "", 4097, gone, "Standard tier parameters support"},
		{"intelligent and small", "/i", "Intelligent-Tiering", 4096, "Standard", gone},
		{"intelligent and large", "/i", "Intelligent-Tiering", 4097, "Advanced", gone},
		{"intelligent and small again", "/i", "Intelligent-Tiering", 10, "Advanced", gone},
		{"Standard after Advanced", "/i", "Standard", 10, gone, "can't downgrade"},
		{"no tier after Advanced", "/i", "", 10, "Advanced", gone},
		{"a full Advanced", "/s", "Advanced", 8192, "Advanced", gone},
		{"beyond Advanced", "/s", "Advanced", 8193, gone, "8192"},
		{"beyond, intelligent", "/s", "Intelligent-Tiering", 8193, gone, "8192"},
		{"a tier there is not", "/s", "Premium", 10, gone, "enum value set"},
	}
	s := start(t)
	for _, step := range steps {
		a := put(t, s, step.name, text(step.size), object{"Tier": step.tier})
		if step.wantTier == gone {
			message, _ := a.body["message"].(string)
			if a.code(t) != "ValidationException" || !strings.Contains(message, step.wantMessage) {
				t.Errorf("%s: answered %v", step.what, a.body)
			}
			continue
		}
		if a.body["Tier"] != step.wantTier {
			t.Errorf("%s: answered %v", step.what, a.body)
		}
	}
	s.Delete("/i")
	if a := put(t, s, "/i", "small", object{"Tier": "Standard"}); a.body["Tier"] != "Standard" || a.body["Version"] != 1.0 {
		t.Errorf("deleted and created again: %v", a.body)
	}
}

func TestPutParameterAppliesTheRulesForNamesTypesAndValues(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Put("/there", "x")
	deep := strings.Repeat("/l", 15)
	cases := map[string]struct {
		in   object
		code string
	}{
		"a free name":         {object{"Name": "plain.name_1-2"}, ""},
		"fifteen levels":      {object{"Name": deep}, ""},
		"sixteen levels":      {object{"Name": deep + "/l"}, "HierarchyLevelLimitExceededException"},
		"no leading slash":    {object{"Name": "a/b"}, "ValidationException"},
		"a colon":             {object{"Name": "/a:b"}, "ValidationException"},
		"a space":             {object{"Name": "/a b"}, "ValidationException"},
		"empty":               {object{"Name": ""}, "ValidationException"},
		"aws":                 {object{"Name": "/AWS/x"}, "ValidationException"},
		"ssm":                 {object{"Name": "ssmx"}, "ValidationException"},
		"too long":            {object{"Name": "/" + strings.Repeat("a", 1000)}, "ValidationException"},
		"exists":              {object{"Name": "/there", "Overwrite": false}, "ParameterAlreadyExists"},
		"another type":        {object{"Name": "/there", "Type": "String"}, "HierarchyTypeMismatchException"},
		"type left out":       {object{"Name": "/there", "Type": ""}, ""},
		"no type":             {object{"Name": "/new", "Type": ""}, "ValidationException"},
		"unknown type":        {object{"Name": "/new", "Type": "Secret"}, "UnsupportedParameterType"},
		"no value":            {object{"Name": "/new", "Value": ""}, "ValidationException"},
		"a nested parameter":  {object{"Name": "/new", "Value": "{{ssm:x}}"}, "ValidationException"},
		"a name in two parts": {object{"Name": "//x"}, "ValidationException"},
	}
	for what, c := range cases {
		in := object{"Value": "v", "Type": "SecureString", "Overwrite": true}
		for k, v := range c.in {
			in[k] = v
		}
		if a := call(t, s, "PutParameter", in); a.code(t) != c.code {
			t.Errorf("%s: answered %v, want %q", what, a.body, c.code)
		}
	}
	if p, _ := s.Get("/there"); p.KeyID != "alias/aws/ssm" || p.Version != 2 {
		t.Errorf("overwritten without a type: %+v", p)
	}
	put(t, s, "/keyed", "v", object{"KeyId": "alias/mesh"})
	if p, _ := s.Get("/keyed"); p.KeyID != "alias/mesh" {
		t.Errorf("put with a key: %+v", p)
	}
}

func TestGetAndDeleteTakeTenNamesAndReportTheUnknownOnes(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Put("/a", "1")
	s.Put("/b", "2")
	names := []string{"/a", "/none", "/b"}
	a := call(t, s, "GetParameters", object{"Names": names, "WithDecryption": true})
	if got := len(a.body["Parameters"].([]any)); got != 2 || !cmp.Equal(a.body["InvalidParameters"], []any{"/none"}) {
		t.Errorf("answered %v", a.body)
	}
	a = call(t, s, "DeleteParameters", object{"Names": names})
	if !cmp.Equal(a.body, object{"DeletedParameters": []any{"/a", "/b"}, "InvalidParameters": []any{"/none"}}) {
		t.Errorf("answered %v", a.body)
	}
	for _, op := range []string{"GetParameters", "DeleteParameters"} {
		for _, n := range []int{0, 11} {
			if a := call(t, s, op, object{"Names": make([]string, n)}); a.code(t) != "ValidationException" {
				t.Errorf("%s of %d names is answered %v", op, n, a.body)
			}
		}
	}
	if a := call(t, s, "DeleteParameter", object{"Name": "/a"}); a.code(t) != "ParameterNotFound" {
		t.Errorf("a second delete is answered %v", a.body)
	}
	if n := s.Names(); len(n) != 0 {
		t.Errorf("left: %v", n)
	}
}

// listed goes through all pages of op and returns their sizes and all names.
func listed(t testing.TB, s *Server, op string, in object) (sizes []int, names []string) {
	t.Helper()
	for {
		a := call(t, s, op, in)
		page, ok := a.body["Parameters"].([]any)
		if !ok {
			t.Fatalf("%s is answered %v", op, a.body)
		}
		sizes = append(sizes, len(page))
		for _, p := range page {
			names = append(names, p.(object)["Name"].(string))
		}
		next, more := a.body["NextToken"]
		if !more {
			return sizes, names
		}
		in["NextToken"] = next
	}
}

func TestListingsComeInPagesAndObeyTheirFilters(t *testing.T) {
	t.Parallel()
	s := start(t)
	for i := range 120 {
		s.Put(fmt.Sprintf("/mesh/default/%03d", i), "v")
	}
	s.Put("/mesh/top", "v")
	s.Put("/meshes/x", "v")
	s.Put("plain", "v")

	if sizes, _ := listed(t, s, "DescribeParameters", object{}); !slices.Equal(sizes, []int{50, 50, 23}) {
		t.Errorf("pages of DescribeParameters: %v", sizes)
	}
	if sizes, _ := listed(t, s, "GetParametersByPath", object{"Path": "/mesh", "Recursive": true, "MaxResults": 9}); len(sizes) != 14 || sizes[0] != 9 {
		t.Errorf("pages of GetParametersByPath: %v", sizes)
	}
	filtered := func(key, option, value string) []string {
		_, names := listed(t, s, "DescribeParameters", object{"ParameterFilters": []object{{"Key": key, "Option": option, "Values": []string{value}}}})
		return names
	}
	if got := len(filtered("Path", "Recursive", "/mesh")); got != 121 {
		t.Errorf("recursive path: %d names", got)
	}
	if got := filtered("Path", "OneLevel", "/mesh"); !slices.Equal(got, []string{"/mesh/top"}) {
		t.Errorf("one level of a path: %v", got)
	}
	if got := len(filtered("Name", "BeginsWith", "/mesh")); got != 122 {
		t.Errorf("beginning of a name: %d names", got)
	}
	if got := filtered("Name", "Equals", "plain"); !slices.Equal(got, []string{"plain"}) {
		t.Errorf("a name: %v", got)
	}
	for what, in := range map[string]object{
		"MaxResults 51":    {"MaxResults": 51},
		"MaxResults 0":     {"MaxResults": 0},
		"a foreign token":  {"NextToken": "????"},
		"an unknown key":   {"ParameterFilters": []object{{"Key": "Colour", "Values": []string{"red"}}}},
		"a path without /": {"ParameterFilters": []object{{"Key": "Path", "Option": "Recursive", "Values": []string{"mesh"}}}},
	} {
		if a := call(t, s, "DescribeParameters", in); a.status != 400 {
			t.Errorf("%s is answered %d %v", what, a.status, a.body)
		}
	}
}

func TestFaultsHitTheirOperationAndTheirNumberOfCalls(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Put("/p", "value")
	get := func() answer {
		t.Helper()
		return call(t, s, "GetParameter", object{"Name": "/p", "WithDecryption": true})
	}
	for want, f := range map[string]Fault{
		"ThrottlingException":         Throttled(),
		"AccessDeniedException":       AccessDenied(),
		"InvalidKeyId":                InvalidKey(),
		"ExpiredTokenException":       ExpiredToken(),
		"UnrecognizedClientException": UnrecognizedClient(),
		"InternalServerError":         InternalError(),
		"TooManyUpdates":              Error("TooManyUpdates", "later"),
	} {
		s.FailNext("GetParameter", 1, f)
		if a := put(t, s, "/other", "v", nil); a.status != 200 {
			t.Errorf("%s hit another operation: %v", want, a.body)
		}
		if a := get(); a.code(t) != want || (a.status == 500) != (want == "InternalServerError") {
			t.Errorf("want %s, answered %d %v", want, a.status, a.body)
		}
		if a := get(); a.status != 200 {
			t.Errorf("%s hit a second call: %v", want, a.body)
		}
	}
	s.FailNext("", 1, AccessDenied())
	if m := get().body["message"].(string); !strings.Contains(m, "ssm:GetParameter on resource: arn:aws:ssm:us-east-1:123456789012:parameter/p ") {
		t.Errorf("a denial says %q", m)
	}
	s.FailNext("", 1, KMSDenied())
	if a := get(); a.code(t) != "AccessDeniedException" || !strings.Contains(a.body["message"].(string), "ciphertext") {
		t.Errorf("a denial by KMS is %v", a.body)
	}
	s.FailNext("", 1, Truncate())
	if a := get(); !errors.Is(a.err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut answer is %+v", a)
	}
	s.FailNext("", 1, Reset())
	if a := get(); !errors.Is(a.err, syscall.ECONNRESET) {
		t.Errorf("a reset is %+v", a)
	}
	s.FailAll("", Throttled())
	get()
	if a := get(); a.status != 400 {
		t.Errorf("a lasting fault ended: %v", a.body)
	}
	s.Heal()
	if a := get(); a.status != 200 {
		t.Errorf("healed: %v", a.body)
	}
}

func TestAHungCallIsAnsweredAfterRelease(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Put("/p", "value")
	s.FailNext("GetParameter", 1, Hang())
	answered := make(chan answer, 1)
	var wg sync.WaitGroup
	wg.Go(func() { answered <- call(t, s, "GetParameter", object{"Name": "/p"}) })
	defer wg.Wait()
	waittest.Until(t, "the answer", func() bool {
		if s.Count("GetParameter") == 1 {
			s.Release() // again and again: the call may not have hung yet
		}
		return len(answered) == 1
	})
	if a := <-answered; a.status != 200 {
		t.Errorf("answered %v, %v", a.body, a.err)
	}
}

func TestCloseEndsHungCalls(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.FailAll("", Hang())
	done := make(chan answer, 1)
	go func() { done <- call(t, s, "GetParameter", object{"Name": "/p"}) }()
	waittest.Until(t, "the call", func() bool { return s.Count("") == 1 })
	s.Close()
	if a := <-done; a.err == nil {
		t.Errorf("a hung call was answered %v", a.body)
	}
}

func TestReadsShareOneBucketAndWritesAnother(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Put("/p", "value")
	s.SetReadLimit(0.001, 2) // two, then none for the life of the test
	s.SetWriteLimit(0.001, 1)
	for i, c := range []struct {
		op   string
		in   object
		want string
	}{
		{"GetParameter", object{"Name": "/p"}, ""},
		{"GetParameters", object{"Names": []string{"/p"}}, ""},
		{"GetParametersByPath", object{"Path": "/"}, "ThrottlingException"},
		{"GetParameter", object{"Name": "/p"}, "ThrottlingException"},
		{"DescribeParameters", object{}, ""},
		{"PutParameter", object{"Name": "/q", "Value": "v", "Type": "String"}, ""},
		{"PutParameter", object{"Name": "/r", "Value": "v", "Type": "String"}, "ThrottlingException"},
		{"DeleteParameter", object{"Name": "/q"}, ""},
	} {
		if a := call(t, s, c.op, c.in); a.code(t) != c.want {
			t.Errorf("call %d, %s: answered %v, want %q", i, c.op, a.body, c.want)
		}
	}
	s.SetReadLimit(0, 0)
	if a := call(t, s, "GetParameter", object{"Name": "/p"}); a.status != 200 {
		t.Errorf("without a limit: %v", a.body)
	}
}

func TestLatencyDelaysTheAnswer(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.SetLatency("", 10*time.Second)
	s.SetLatency("GetParameter", 30*time.Millisecond)
	begin := time.Now()
	call(t, s, "GetParameter", object{"Name": "/p"})
	if d := time.Since(begin); d < 30*time.Millisecond || d > 5*time.Second {
		t.Errorf("answered after %v, want the operation's own 30 ms", d)
	}
}

func TestRequireAuthLetsOnlyItsPrincipalsIn(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Put("/p", "v")
	s.RequireAuth(
		Principal{AccessKeyID: "AKIDOLD", SessionToken: "old", Expires: time.Now().Add(-time.Second)},
		Principal{AccessKeyID: "AKIDNEW", SessionToken: "new", Expires: time.Now().Add(time.Hour)},
	)
	signed := func(id, region, service string) string {
		return "AWS4-HMAC-SHA256 Credential=" + id + "/20260101/" + region + "/" + service + "/aws4_request, SignedHeaders=host;x-amz-date, Signature=00ff"
	}
	for what, c := range map[string]struct{ authorization, token, want string }{
		"nothing":         {"", "", "MissingAuthenticationTokenException"},
		"basic":           {"Basic Zm9v", "", "MissingAuthenticationTokenException"},
		"good":            {signed("AKIDNEW", "us-east-1", "ssm"), "new", ""},
		"without a token": {signed("AKIDNEW", "us-east-1", "ssm"), "", "UnrecognizedClientException"},
		"another's token": {signed("AKIDNEW", "us-east-1", "ssm"), "old", "UnrecognizedClientException"},
		"unknown":         {signed("AKIDX", "us-east-1", "ssm"), "new", "UnrecognizedClientException"},
		"expired":         {signed("AKIDOLD", "us-east-1", "ssm"), "old", "ExpiredTokenException"},
		"other region":    {signed("AKIDNEW", "eu-west-1", "ssm"), "new", "InvalidSignatureException"},
		"other service":   {signed("AKIDNEW", "us-east-1", "s3"), "new", "InvalidSignatureException"},
	} {
		a := call(t, s, "GetParameter", object{"Name": "/p"}, "Authorization", c.authorization, "X-Amz-Security-Token", c.token)
		if a.code(t) != c.want {
			t.Errorf("%s: answered %v, want %q", what, a.body, c.want)
		}
	}
	if i := slices.IndexFunc(s.Calls(), func(c Call) bool { return c.AccessKeyID == "AKIDX" && c.Op == "GetParameter" && c.Name == "/p" }); i < 0 {
		t.Error("a refused call was not recorded")
	}
	s.RequireAuth()
	if a := call(t, s, "GetParameter", object{"Name": "/p"}); a.status != 200 {
		t.Errorf("open to everybody again: %v", a.body)
	}
}

func TestTheCredentialsEndpointWantsItsToken(t *testing.T) {
	t.Parallel()
	end := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s, err := StartCredentials("good", Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret", SessionToken: "session", Expires: end})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for token, want := range map[string]int{"good": 200, "bad": 403, "": 403} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Close = true
		r.Header.Set("Authorization", token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("token %q is answered %d", token, resp.StatusCode)
		}
		if want == 200 && !cmp.Equal(got, map[string]string{"AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "session", "Expiration": "2030-01-02T03:04:05Z"}) {
			t.Errorf("answered %v", got)
		}
	}
	if n := s.Count(); n != 3 {
		t.Errorf("counted %d requests", n)
	}
}
