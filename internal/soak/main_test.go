// SPDX-License-Identifier: MPL-2.0

package main

import (
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/labtest"
)

// A row of the matrix waits most of the time.
func TestMain(m *testing.M) { labtest.Main(m, 40) }

func programs(t testing.TB) lab.Programs {
	t.Helper()
	return labtest.Programs(t, lab.BuildOptions{})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
