// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/lab/labtest"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// patience bounds whatever should happen soon.
const patience = waittest.Patience

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

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
