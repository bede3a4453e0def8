// SPDX-License-Identifier: MPL-2.0

package registratorenv

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/consul-lambda/consul-lambda/internal/environ"
	"github.com/consul-lambda/consul-lambda/internal/environ/environtest"
)

func TestTheDocumentationHasEveryVariableAndItsDefault(t *testing.T) {
	t.Parallel()
	documented := environtest.Section(t, "../../docs/configuration.md", "The registrator")
	least := []string{"NODE_NAME=lambdas"}
	r := environ.New(least)
	want, err := parse(r)
	if err != nil {
		t.Fatal(err)
	}
	environtest.Complete(t, documented, r.Asked())
	for name, value := range documented {
		if value == "" {
			continue
		}
		if got, err := Parse(append([]string{name + "=" + value}, least...)); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s=%s, the documented default, is not what is used without it: %v\n%s", name, value, err, cmp.Diff(want, got))
		}
	}
}
