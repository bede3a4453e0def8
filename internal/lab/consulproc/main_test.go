// SPDX-License-Identifier: MPL-2.0

package consulproc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) != "" {
		os.Exit(parent())
	}
	waittest.Parallel(12) // a server waits, for its election
	goleak.VerifyTestMain(m)
}

// parentVariable makes the test program a parent of a server, which it leaves behind when it is killed. It has the
// folder to work in.
const parentVariable = "CONSULPROC_TEST_PARENT"

// parent starts a server and a proxy, says so, and waits to be killed.
func parent() int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := consulproc.Start(ctx, consulproc.Config{
		Binary: os.Getenv(consulproc.BinaryVariable), Dir: os.Getenv(parentVariable),
	})
	if err == nil {
		_, err = server.ConnectProxy(ctx, consulproc.ProxyConfig{Service: "api", LocalAddr: "127.0.0.1:1"})
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("started")
	<-ctx.Done()
	return 1
}

// binary returns the real Consul, and skips the test where there is none, unless CONSUL_REQUIRED is 1.
func binary(t testing.TB) string {
	t.Helper()
	path, err := consulproc.Find(filepath.Join("..", "..", "..", "bin"))
	if errors.Is(err, consulproc.ErrNoBinary) && os.Getenv("CONSUL_REQUIRED") != "1" {
		t.Skip("run make consul for this test: ", err)
	}
	ok(t, err)
	return path
}

// long skips a test that takes so long that it has to be asked for, by CONSUL_LONG=1.
func long(t testing.TB, takes string) {
	t.Helper()
	if os.Getenv("CONSUL_LONG") != "1" {
		t.Skip("it takes " + takes + ": set CONSUL_LONG=1")
	}
}

// start runs a server for the life of the test.
func start(t testing.TB, config consulproc.Config) *consulproc.Server {
	t.Helper()
	config.Binary, config.Dir = binary(t), t.TempDir()
	server, err := consulproc.Start(t.Context(), config)
	ok(t, err)
	t.Cleanup(func() { ok(t, server.Close()) })
	return server
}

// client returns a client of Consul's API.
func client(t testing.TB, s *consulproc.Server, token string) *api.Client {
	t.Helper()
	c, err := api.NewClient(&api.Config{Address: s.Addr(), Scheme: "http", Token: token, HttpClient: s.HTTPClient()})
	ok(t, err)
	return c
}

// token makes a token with these ACL rules.
func token(t testing.TB, s *consulproc.Server, name, rules string) string {
	t.Helper()
	acl := client(t, s, s.Token()).ACL()
	policy, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil)
	ok(t, err)
	made, _, err := acl.TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
	ok(t, err)
	return made.SecretID
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
