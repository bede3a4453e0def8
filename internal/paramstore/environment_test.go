// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var discardLog = log.New(io.Discard, "", 0)

// errSeen ends a request at the transport, after it was recorded.
var errSeen = errors.New("seen")

type recordingTransport struct{ req *http.Request }

func (r *recordingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	r.req = req
	return nil, errSeen
}

func TestRequestsGoToTheEndpointOfTheEnvironment(t *testing.T) {
	t.Parallel()
	cases := []struct {
		what  string
		pairs []string
		want  string
	}{
		{"a region", []string{"AWS_REGION", "eu-central-1"}, "https://ssm.eu-central-1.amazonaws.com/"},
		{"the older variable", []string{"AWS_REGION", "", "AWS_DEFAULT_REGION", "eu-west-3"}, "https://ssm.eu-west-3.amazonaws.com/"},
		{"AWS_REGION first", []string{"AWS_REGION", "eu-west-1", "AWS_DEFAULT_REGION", "eu-west-3"}, "https://ssm.eu-west-1.amazonaws.com/"},
		{"China", []string{"AWS_REGION", "cn-northwest-1"}, "https://ssm.cn-northwest-1.amazonaws.com.cn/"},
		{"GovCloud", []string{"AWS_REGION", "us-gov-east-1"}, "https://ssm.us-gov-east-1.amazonaws.com/"},
		{"an isolated region", []string{"AWS_REGION", "us-iso-east-1"}, "https://ssm.us-iso-east-1.c2s.ic.gov/"},
		{"another isolated region", []string{"AWS_REGION", "us-isob-east-1"}, "https://ssm.us-isob-east-1.sc2s.sgov.gov/"},
		{"a region of tomorrow", []string{"AWS_REGION", "mx-north-7"}, "https://ssm.mx-north-7.amazonaws.com/"},
		{"FIPS", []string{"AWS_USE_FIPS_ENDPOINT", "true"}, "https://ssm-fips.us-east-1.amazonaws.com/"},
		{"FIPS in GovCloud", []string{"AWS_REGION", "us-gov-west-1", "AWS_USE_FIPS_ENDPOINT", "True"}, "https://ssm.us-gov-west-1.amazonaws.com/"},
		{"dual stack", []string{"AWS_USE_DUALSTACK_ENDPOINT", "true"}, "https://ssm.us-east-1.api.aws/"},
		{"dual stack in China", []string{"AWS_REGION", "cn-north-1", "AWS_USE_DUALSTACK_ENDPOINT", "true"}, "https://ssm.cn-north-1.api.amazonwebservices.com.cn/"},
		{"both", []string{"AWS_USE_FIPS_ENDPOINT", "true", "AWS_USE_DUALSTACK_ENDPOINT", "true"}, "https://ssm-fips.us-east-1.api.aws/"},
		{"an endpoint for all", []string{"AWS_ENDPOINT_URL", "http://localhost:4566"}, "http://localhost:4566/"},
		{"an endpoint for ssm", []string{"AWS_ENDPOINT_URL", "http://localhost:4566", "AWS_ENDPOINT_URL_SSM", "https://vpce-1.ssm.us-east-1.vpce.amazonaws.com"}, "https://vpce-1.ssm.us-east-1.vpce.amazonaws.com/"},
		{"ignored endpoints", []string{"AWS_ENDPOINT_URL_SSM", "http://localhost:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"}, "https://ssm.us-east-1.amazonaws.com/"},
		{"FIPS beside an ignored endpoint", []string{"AWS_ENDPOINT_URL", "http://localhost:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", "AWS_USE_FIPS_ENDPOINT", "true"}, "https://ssm-fips.us-east-1.amazonaws.com/"},
	}
	for _, c := range cases {
		env := lambdaEnv.with(c.pairs...)
		rt := &recordingTransport{}
		s, err := newStore(Config{Getenv: env.get}, rt, nil)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if _, err := s.Reader("/p").Fetch(t.Context()); !errors.Is(err, errSeen) {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if got := rt.req.URL.String(); got != c.want {
			t.Errorf("%s: request to %s, want %s", c.what, got, c.want)
		}
		scope := "/" + s.region + "/ssm/aws4_request"
		if a := rt.req.Header.Get("Authorization"); !strings.Contains(a, scope) {
			t.Errorf("%s: signed for %s, want %s", c.what, a, scope)
		}
		if tok := rt.req.Header.Get("X-Amz-Security-Token"); tok != "session-of-test" {
			t.Errorf("%s: session token %q", c.what, tok)
		}
	}
}

func TestNewNamesEveryVariableThatIsWrong(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		pairs []string
		want  []string
	}{
		"no region":        {[]string{"AWS_REGION", ""}, []string{"AWS_REGION"}},
		"a strange region": {[]string{"AWS_REGION", "us-east-1/x"}, []string{"AWS_REGION", `"us-east-1/x"`}},
		"half a boolean":   {[]string{"AWS_USE_FIPS_ENDPOINT", "yes"}, []string{"AWS_USE_FIPS_ENDPOINT", `"yes"`, "true or false"}},
		"no URL":           {[]string{"AWS_ENDPOINT_URL_SSM", "localhost:4566"}, []string{"AWS_ENDPOINT_URL_SSM", `"localhost:4566"`, "http"}},
		"FIPS elsewhere":   {[]string{"AWS_ENDPOINT_URL", "http://localhost:1", "AWS_USE_FIPS_ENDPOINT", "true"}, []string{"FIPS"}},
		"credentials URL":  {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "file:///etc/passwd"}, []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI"}},
		"no bundle":        {[]string{"AWS_CA_BUNDLE", "/nowhere.pem"}, []string{"AWS_CA_BUNDLE", "/nowhere.pem"}},
		"an empty bundle":  {[]string{"AWS_CA_BUNDLE", os.DevNull}, []string{"AWS_CA_BUNDLE", os.DevNull}},
		"several at once": {[]string{"AWS_USE_FIPS_ENDPOINT", "1", "AWS_USE_DUALSTACK_ENDPOINT", "0", "AWS_ENDPOINT_URL", "x", "AWS_CA_BUNDLE", "/nowhere.pem"},
			[]string{"AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"}},
	}
	for what, c := range cases {
		_, err := New(Config{Getenv: lambdaEnv.with(c.pairs...).get})
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		for _, part := range append(c.want, "paramstore: ") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", what, err, part)
			}
		}
	}
}

func TestTheBundleOfTheEnvironmentIsTrusted(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	sim.Put("/p", "value")
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.DefaultTransport.RoundTrip(forward(r, sim.URL()))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	srv.Config.ErrorLog = discardLog
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(bundle, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, sim, "AWS_ENDPOINT_URL_SSM", srv.URL, "AWS_CA_BUNDLE", bundle)
	if v, err := s.Reader("/p").Fetch(t.Context()); err != nil || string(v) != "value" {
		t.Errorf("got %q, %v", v, err)
	}
}

// forward is r for another server, on a connection of its own.
func forward(r *http.Request, to string) *http.Request {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", strings.TrimPrefix(to, "http://")
	out.RequestURI, out.Close = "", true
	return out
}
