// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t testing.TB, cfg consulsim.Config) *consulsim.Server {
	t.Helper()
	srv, err := consulsim.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// open makes a Client for the server at addr.
func open(t testing.TB, addr string, cfg Config) *Client {
	t.Helper()
	if cfg.API == nil {
		cfg.API = &api.Config{Address: addr}
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// answering is a server with one answer to all requests.
func answering(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return srv.URL
}

func service(t testing.TB, name string) mesh.Service {
	t.Helper()
	s, err := mesh.NewService(name, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func instance(t testing.TB, name string) registrator.Instance {
	t.Helper()
	return registrator.Instance{
		Key: registrator.Key{Service: service(t, name)}, ID: name, Tags: []string{"managed"}, Meta: map[string]string{"owner": "us"},
	}
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

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
