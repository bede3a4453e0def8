// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
)

// patience bounds whatever should happen soon. Consul spreads new leaves over 30 s when its root changes.
const patience = 45 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	if !isSet("test.parallel") {
		// Most of these tests wait most of the time, for elections and for gossip.
		_ = flag.Set("test.parallel", "4")
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
		os.Exit(code)
	}))
}

func isSet(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// root is the repository's, as seen from here.
var root = filepath.Join("..", "..")

// binary returns the real Consul, and skips the test unless it was asked for.
func binary(t testing.TB) string {
	t.Helper()
	if os.Getenv("E2E") != "1" {
		t.Skip("make test-e2e runs it")
	}
	path, err := consulproc.Find(filepath.Join(root, "bin"))
	if errors.Is(err, consulproc.ErrNoBinary) && os.Getenv("CONSUL_REQUIRED") != "1" {
		t.Skip("run make consul for this test: ", err)
	}
	ok(t, err)
	return path
}

// built are the programs of the product, made once for the test process.
var built struct {
	once sync.Once
	dir  string
	err  error

	lab.Programs
	registrator string
}

func programs(t testing.TB) {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "consul-lambda-e2e-"); built.err != nil {
			return
		}
		if built.Programs, built.err = lab.Build(context.Background(), built.dir, lab.BuildOptions{}); built.err != nil {
			return
		}
		built.registrator = filepath.Join(built.dir, "consul-lambda-registrator")
		cmd := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-o", built.registrator, "./cmd/consul-lambda-registrator")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("building the registrator: %w\n%s", err, out)
		}
	})
	ok(t, built.err)
}

// eventually asks until what says nil.
func eventually(t testing.TB, what func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := what(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", patience, err)
		}
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
