// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/consul-lambda/consul-lambda/registrator"
)

// What could not be said is no success, and no finding either.
func TestAFullDiskIsAnError(t *testing.T) {
	s := newTestSite(t)
	for name, value := range s.env {
		t.Setenv(name, value)
	}
	s.aws.AddFunction("web", map[string]string{registrator.TagEnabled: "true"}) // a plan with changes is 2
	dir := broken(t)
	for _, c := range []struct {
		code int
		line string
	}{
		{1, ""}, {1, "--version"}, {1, "help plan"}, {1, "plan --help"},
		{1, "demo --bin " + dir}, {1, "demo --json --bin " + dir}, {1, "plan"}, {1, "plan --json"},
		{2, "doctor --upstream web --watch 50ms"}, {2, "doctor --json --upstream web --watch 50ms"}, {2, "doctor --json --watch 0s"},
	} {
		var errs bytes.Buffer
		code := run(t.Context(), append([]string{"consul-lambda"}, strings.Fields(c.line)...), full{}, &errs)
		if code != c.code || !strings.Contains(errs.String(), "no space left on device") {
			t.Errorf("%q: exit code %d, want %d: %s", c.line, code, c.code, &errs)
		}
	}
}
