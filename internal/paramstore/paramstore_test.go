// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// environment is a Getenv over a map.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// with returns e with more variables, or others.
func (e environment) with(pairs ...string) environment {
	out := make(environment, len(e)+len(pairs)/2)
	for k, v := range e {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

// lambdaEnv is what a sandbox has.
var lambdaEnv = environment{
	"AWS_REGION":            "us-east-1",
	"AWS_ACCESS_KEY_ID":     "AKIDTEST",
	"AWS_SECRET_ACCESS_KEY": "not-a-secret",
	"AWS_SESSION_TOKEN":     "session-of-test",
}

func startSim(t testing.TB) *ssmsim.Server {
	t.Helper()
	srv, err := ssmsim.Start(ssmsim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// open makes a Store for srv; pairs are more of its environment.
func open(t testing.TB, srv *ssmsim.Server, pairs ...string) *Store {
	t.Helper()
	env := lambdaEnv.with("AWS_ENDPOINT_URL_SSM", srv.URL()).with(pairs...)
	s, err := New(Config{Getenv: env.get, AttemptTimeout: time.Minute}) // a busy test machine is not the question
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
