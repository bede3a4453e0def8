// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/lab/labtest"
)

// patience bounds whatever should happen soon. Consul spreads new leaves over 30 s when its root changes.
const patience = 45 * time.Second

// Most of these tests wait most of the time, for elections and for gossip.
func TestMain(m *testing.M) { labtest.Main(m, 4) }

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
