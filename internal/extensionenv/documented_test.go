// SPDX-License-Identifier: MPL-2.0

package extensionenv

import (
	"reflect"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/environ"
	"github.com/consul-lambda/consul-lambda/internal/environ/environtest"
)

func TestTheDocumentationHasEveryVariableAndItsDefault(t *testing.T) {
	t.Parallel()
	documented := environtest.Section(t, "../../docs/configuration.md", "The extension")
	r := environ.New(environment(nil))
	want, err := parse(r)
	if err != nil {
		t.Fatal(err)
	}
	environtest.Complete(t, documented, r.Asked(),
		"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
	for name, value := range documented {
		if value == "" {
			continue
		}
		got, err := Parse(environment(map[string]string{name: value}))
		if name == "CONSUL_EXTENSION_BIND_ADDR" {
			got.BindDefault = true // asked for by name, it may not be missing
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s=%s, the documented default, is not what is used without it: %v\n got %+v\nwant %+v", name, value, err, got, want)
		}
	}
}
