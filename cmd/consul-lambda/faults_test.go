// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/doctor"
	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
)

// startTestSite makes a site without a registrator: its world's document is in the store, Consul and the account are empty. The caller
// closes it.
func startTestSite(ctx context.Context) (s *site, closeSite func() error, err error) {
	world, err := lab.New(ctx, lab.Config{})
	if err != nil {
		return nil, nil, err
	}
	aws, awsErr := controlsim.Start(controlsim.Config{})
	consul, consulErr := consulsim.Start(consulsim.Config{CA: world.Mesh.CA})
	if err := errors.Join(awsErr, consulErr); err != nil {
		return nil, nil, err
	}
	return newSite(world, aws, consul), func() error {
		consul.Close()
		aws.Close()
		return world.Close()
	}, nil
}

// newTestSite is startTestSite for a test, which closes the site.
func newTestSite(t testing.TB) *site {
	t.Helper()
	s, closeSite, err := startTestSite(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeSite(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// environ is the site's environment for a program.
func (s *site) environ() []string {
	var environ []string
	for name, value := range s.env {
		environ = append(environ, name+"="+value)
	}
	return environ
}

// found says which check is to find each fault, and what its remedy is to say.
var found = map[string]struct{ check, remedy string }{
	"missing-parameter":    {"store", "is this function registered"},
	"access-denied":        {"store", "allow ssm:GetParameter on arn:aws:ssm:us-east-1:"},
	"kms-denied":           {"store", "allow kms:Decrypt"},
	"throttled":            {"store", "throughput"},
	"not-a-document":       {"document", "let the registrator write it anew"},
	"mismatched-key":       {"key", "let the registrator write it anew"},
	"expired-leaf":         {"leaf", "the registrator has not renewed it"},
	"future-leaf":          {"leaf", "set the clock"},
	"missing-root":         {"chain", "a root is missing"},
	"foreign-leaf":         {"identity", "the document of another function"},
	"gateway-refused":      {"gateway", "is the mesh gateway up"},
	"gateway-silent":       {"gateway", "security groups"},
	"no-dns":               {"gateway", "is the name right"},
	"no-route":             {"route", "the gateway has no route for this SNI: is the service registered in datacenter dc1, and is its sidecar up?"},
	"wrong-identity":       {"route", "another service"},
	"denied-intention":     {"intention", "consul intention create -allow checkout web"},
	"denied-at-first-byte": {"intention", "consul intention create -allow checkout denied"},
}

func TestTheDoctorFindsEachFaultAndNamesItsRemedy(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		want, ok := found[f.name]
		if !ok {
			if f.name != "lost-events" { // for plan
				t.Errorf("nobody looks for %s", f.name)
			}
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			if f.name == "gateway-silent" && runtime.GOOS != "linux" {
				t.Skip("no packet can be made to vanish")
			}
			s := newTestSite(t)
			if err := f.do(s); err != nil {
				t.Fatal(err)
			}
			s.env["CONSUL_EXTENSION_DIAL_TIMEOUT"] = "1s"
			report := doctor.Run(t.Context(), doctor.Config{
				Environ: s.environ(), Send: f.name == "denied-at-first-byte", Watch: 300 * time.Millisecond,
			})
			failures := slices.DeleteFunc(slices.Clone(report.Results), func(r doctor.Result) bool { return r.Status != doctor.Fail })
			if report.OK || len(failures) != 1 || failures[0].Name != want.check || !strings.Contains(failures[0].Remedy, want.remedy) {
				t.Errorf("want one failure, of %s, with the remedy %q; got %+v", want.check, want.remedy, failures)
			}
			tellsNoSecret(t, s, report)
		})
	}
}

func TestTheDoctorFindsNothingWhereAllIsWell(t *testing.T) {
	t.Parallel()
	s := newTestSite(t)
	for _, send := range []bool{false, true} {
		report := doctor.Run(t.Context(), doctor.Config{Environ: s.environ(), Send: send, Watch: 300 * time.Millisecond})
		if !report.OK || report.Warned != 0 {
			t.Errorf("with send %v: %+v", send, report)
		}
		tellsNoSecret(t, s, report)
	}
	// Five upstreams, and a byte for none of them before it was asked for.
	if got := s.world.Collected.Bytes(); got == 0 {
		t.Error("a probe was asked for, and none arrived")
	}
}

func TestTheDoctorSendsNothingUnlessAsked(t *testing.T) {
	t.Parallel()
	s := newTestSite(t)
	report := doctor.Run(t.Context(), doctor.Config{Environ: s.environ(), Watch: 100 * time.Millisecond})
	if got := s.world.Collected.Bytes(); !report.OK || got != 0 {
		t.Errorf("%d bytes arrived: %+v", got, report)
	}
}

// tellsNoSecret: R18.
func tellsNoSecret(t testing.TB, s *site, report doctor.Report) {
	t.Helper()
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range s.world.Secrets() {
		if strings.Contains(string(text), secret) {
			t.Errorf("the report has a secret: %s", text)
		}
	}
}
