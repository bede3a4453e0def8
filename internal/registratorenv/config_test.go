// SPDX-License-Identifier: MPL-2.0

package registratorenv

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/consul-lambda/consul-lambda/internal/paramstore"
	"github.com/consul-lambda/consul-lambda/registrator"
)

func TestTheDefaultsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	got, err := Parse([]string{"NODE_NAME=lambdas"})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		NodeName: "lambdas", DataTier: paramstore.IntelligentTiering, Policy: registrator.Sync, Schedule: 10 * time.Minute, Refresh: 5 * time.Minute, PageSize: 50,
		LogLevel: slog.LevelInfo,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryVariableIsRead(t *testing.T) {
	t.Parallel()
	got, err := Parse([]string{
		"NODE_NAME=lambdas", "DATACENTER=dc2", "ENTERPRISE=True", "PARTITIONS=default, team-a,", "LOG_LEVEL=DEBUG",
		"CONSUL_CACERT_PATH=/consul/ca", "CONSUL_HTTP_TOKEN_PATH=/consul/token", "CONSUL_EXTENSION_DATA_PREFIX=/consul/lambda/",
		"CONSUL_EXTENSION_DATA_TIER=advanced", "PAGE_SIZE=20", "CONSUL_LAMBDA_KMS_KEY_ID=alias/mesh", "CONSUL_LAMBDA_MAX_DELETES=3",
		"CONSUL_LAMBDA_POLICY=Upsert-Only", "CONSUL_LAMBDA_SCHEDULE=5m", "CONSUL_REFRESH_FREQUENCY=1m", "CONSUL_LAMBDA_METRICS=emf",
		"CONSUL_LAMBDA_RATE_LAMBDA=5", "CONSUL_LAMBDA_RATE_GET_FUNCTION=33.3", "CONSUL_LAMBDA_RATE_TAGGING=0",
		"CONSUL_LAMBDA_RATE_SSM_PUT=0.5", "CONSUL_LAMBDA_RATE_CONSUL=10",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		NodeName: "lambdas", Datacenter: "dc2", Enterprise: true, Partitions: []string{"default", "team-a"},
		DataPrefix: "/consul/lambda", DataTier: paramstore.Advanced, KMSKeyID: "alias/mesh",
		CACertPath: "/consul/ca", TokenPath: "/consul/token",
		Policy: registrator.UpsertOnly, MaxDeletes: 3, Schedule: 5 * time.Minute, Refresh: time.Minute, PageSize: 20,
		Rates: Rates{Lambda: 5, GetFunction: 33.3, Tagging: -1, Put: 0.5, Leaf: 10},
		EMF:   true, LogLevel: slog.LevelDebug,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	wrong := map[string]string{
		"ENTERPRISE": "maybe", "CONSUL_EXTENSION_DATA_TIER": "gold", "PAGE_SIZE": "51", "CONSUL_LAMBDA_POLICY": "delete",
		"CONSUL_LAMBDA_MAX_DELETES": "-1", "CONSUL_LAMBDA_SCHEDULE": "5", "CONSUL_REFRESH_FREQUENCY": "0s",
		"CONSUL_LAMBDA_METRICS": "on", "CONSUL_LAMBDA_RATE_LAMBDA": "-2", "CONSUL_LAMBDA_RATE_SSM_PUT": "fast",
		"CONSUL_LAMBDA_RATE_CONSUL": "NaN", "PARTITIONS": "a,,b",
	}
	environ := []string{}
	for name, value := range wrong {
		environ = append(environ, name+"="+value)
	}
	_, err := Parse(environ)
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if want := len(wrong) + 1; len(lines) != want { // and NODE_NAME
		t.Errorf("%d errors, want %d:\n%v", len(lines), want, err)
	}
	for name, value := range wrong {
		if !slices.ContainsFunc(lines, func(l string) bool {
			return strings.HasPrefix(l, name+": ") && strings.Contains(l, `"`+value+`"`) && strings.Contains(l, "accepted: ")
		}) {
			t.Errorf("no line names %s, its value and what is accepted:\n%v", name, err)
		}
	}
}

func TestAMisspelledVariableOfOursIsAWarning(t *testing.T) {
	t.Parallel()
	c, err := Parse([]string{"NODE_NAME=lambdas", "CONSUL_LAMBDA_MAX_DELETE=3", "LOG_LEVEL=loud"})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 2 || !strings.Contains(c.Warnings[1], "CONSUL_LAMBDA_MAX_DELETE") || !strings.Contains(c.Warnings[0], "LOG_LEVEL") {
		t.Errorf("warnings %q", c.Warnings)
	}
}
