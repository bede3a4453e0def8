// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
)

// containerEnv is a sandbox without keys, as SnapStart restores it.
func containerEnv(srv *ssmsim.Server, creds *ssmsim.CredentialServer) environment {
	return environment{
		"AWS_REGION":                         "us-east-1",
		"AWS_ENDPOINT_URL_SSM":               srv.URL(),
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": creds.URL(),
		"AWS_CONTAINER_AUTHORIZATION_TOKEN":  "token-1",
	}
}

func startCredentials(t testing.TB, c ssmsim.Credentials) *ssmsim.CredentialServer {
	t.Helper()
	s, err := ssmsim.StartCredentials("token-1", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func mustNew(t testing.TB, env environment) *Store {
	t.Helper()
	s, err := New(Config{Getenv: env.get, AttemptTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func issued(id string, life time.Duration) ssmsim.Credentials {
	return ssmsim.Credentials{AccessKeyID: id, SecretAccessKey: "s", SessionToken: "session-" + id, Expires: time.Now().Add(life)}
}

func principal(id string) ssmsim.Principal {
	return ssmsim.Principal{AccessKeyID: id, SessionToken: "session-" + id}
}

func TestContainerCredentialsAreKeptWhileTheyLastAndReplacedBeforeTheirEnd(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.Put("/p", "value")
	creds := startCredentials(t, issued("AKID1", time.Hour))
	r := mustNew(t, containerEnv(srv, creds)).Reader("/p")
	fetch := func() {
		t.Helper()
		if _, err := r.Fetch(t.Context()); err != nil {
			t.Error(err)
		}
	}
	srv.RequireAuth(principal("AKID1"))
	fetch()
	fetch()
	if n := creds.Count(); n != 1 {
		t.Errorf("credentials of an hour were asked for %d times in two fetches", n)
	}

	// Four minutes are less than the window before the end: replaced at each use.
	creds.Set("token-1", issued("AKID2", 4*time.Minute))
	r = mustNew(t, containerEnv(srv, creds)).Reader("/p")
	srv.RequireAuth(principal("AKID2"))
	fetch()
	creds.Set("token-1", issued("AKID3", time.Hour))
	srv.RequireAuth(principal("AKID3"))
	fetch()
	if n := creds.Count(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

func TestTheAuthorizationTokenFileIsReadAtEachUse(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.Put("/p", "value")
	creds := startCredentials(t, issued("AKID1", time.Minute))
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := containerEnv(srv, creds).with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "not this one")
	r := mustNew(t, env).Reader("/p")
	write("token-1")
	if _, err := r.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	creds.Set("token-2", issued("AKID2", time.Minute))
	_, err := r.Fetch(t.Context())
	checkError(t, err, kindCredentials, ErrCredentials, "the authorization token is not valid")
	write("token-2")
	if _, err := r.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, err = r.Fetch(t.Context())
	checkError(t, err, kindCredentials, ErrCredentials, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
}

func TestKeysOfTheEnvironmentComeFirstAndAreReadAtEachUse(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	srv.Put("/p", "value")
	creds := startCredentials(t, issued("AKIDCONTAINER", time.Hour))
	var mu sync.Mutex
	env := containerEnv(srv, creds)
	s, err := New(Config{AttemptTimeout: time.Minute, Getenv: func(k string) string {
		mu.Lock()
		defer mu.Unlock()
		return env[k]
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	set := func(pairs ...string) {
		mu.Lock()
		defer mu.Unlock()
		env = env.with(pairs...)
	}
	for _, id := range []string{"AKIDA", "AKIDB"} {
		set("AWS_ACCESS_KEY_ID", id, "AWS_SECRET_ACCESS_KEY", "s", "AWS_SESSION_TOKEN", "session-"+id)
		srv.RequireAuth(principal(id))
		if _, err := s.Reader("/p").Fetch(t.Context()); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	set("AWS_SECRET_ACCESS_KEY", "") // half a pair is none
	srv.RequireAuth(principal("AKIDCONTAINER"))
	if _, err := s.Reader("/p").Fetch(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWithoutCredentialsNoRequestIsMade(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	_, err := mustNew(t, environment{"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": srv.URL()}).Reader("/p").Fetch(t.Context())
	checkError(t, err, kindCredentials, ErrCredentials, "no credentials in the environment")
	if n := srv.Count(""); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestFailuresOfTheCredentialsEndpointAreErrorsOfCredentials(t *testing.T) {
	t.Parallel()
	sim := startSim(t)
	for what, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"refused":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "credentials endpoint answered 403"},
		"not JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>" + secret)) }, "credentials"},
		"redirected": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, sim.URL(), http.StatusTemporaryRedirect)
		}, "credentials endpoint answered 307"},
		"an empty object": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte("{}"))
		}, "credentials"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(c.handler)
			t.Cleanup(srv.Close)
			env := environment{"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": sim.URL(), "AWS_CONTAINER_CREDENTIALS_FULL_URI": srv.URL}
			_, err := mustNew(t, env).Reader("/p").Fetch(t.Context())
			checkError(t, err, kindCredentials, ErrCredentials, c.want)
		})
	}
	t.Cleanup(func() {
		if n := sim.Count(""); n != 0 {
			t.Errorf("%d requests without credentials", n)
		}
	})
}

// The token must not leave the machine in the clear.
func TestTheCredentialsEndpointIsLocalOrHTTPS(t *testing.T) {
	t.Parallel()
	for address, allowed := range map[string]bool{
		"127.0.0.1:80":           true,
		"127.8.9.1:9001":         true,
		"[::1]:80":               true,
		"[::ffff:127.0.0.1]:80":  true,
		"169.254.170.2:80":       true,
		"169.254.170.23:80":      true,
		"[fd00:ec2::23]:80":      true,
		"169.254.169.254:80":     false,
		"10.0.0.1:80":            false,
		"[fd00:ec2::254]:80":     false,
		"[::ffff:10.0.0.1]:9001": false,
	} {
		if err := onlyLocal("tcp", address, nil); (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
	}
	srv := startSim(t)
	env := environment{"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": srv.URL(), "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/creds"}
	begin := time.Now()
	_, err := mustNew(t, env).Reader("/p").Fetch(t.Context())
	checkError(t, err, kindCredentials, ErrCredentials, "192.0.2.1", "use https")
	if d := time.Since(begin); d >= credentialsTimeout {
		t.Errorf("refused after %v: it was dialled", d)
	}
	for scheme, proxied := range map[string]bool{"http": false, "https": true} {
		if tr := credentialsClient(scheme, nil).Transport.(*http.Transport); (tr.Proxy != nil) != proxied {
			t.Errorf("%s: proxy is %v", scheme, tr.Proxy != nil)
		}
	}
}

func TestTheRelativeURIIsOnTheContainerHost(t *testing.T) {
	t.Parallel()
	env := environment{"AWS_REGION": "us-east-1", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/uuid"}
	c, err := newCredentials(env.get, nil)
	if err != nil || c.container == nil {
		t.Fatalf("got %v, %v", c, err)
	}
	env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "@example.com/"
	if _, err := newCredentials(env.get, nil); err == nil || !strings.Contains(err.Error(), "RELATIVE_URI") {
		t.Errorf("a bad one: %v", err)
	}
}

// The SDK's cache detaches the request for credentials from the context; the
// caller must not wait for it all the same.
func TestAHungCredentialsEndpointDoesNotHoldAFetch(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	hung := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release); hung.Close() })
	env := environment{"AWS_REGION": "us-east-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": hung.URL}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := mustNew(t, env).Reader("/p").Fetch(ctx)
	checkError(t, err, kindCredentials, ErrCredentials)
	if d := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || d > credentialsTimeout {
		t.Errorf("%v after %v", err, d)
	}
}
