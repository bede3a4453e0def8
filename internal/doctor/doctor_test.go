// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

func newWorld(t testing.TB, cfg lab.Config) *lab.World {
	t.Helper()
	w, err := lab.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// environ is that of the world's extension, with changes.
func environ(w *lab.World, changes ...string) []string {
	fn, role := w.Function(), w.Options()
	all := append(slices.Clone(changes), "AWS_REGION=us-east-1", "AWS_LAMBDA_FUNCTION_NAME="+fn.Name, "AWS_ACCESS_KEY_ID="+role.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY="+role.SecretAccessKey, "AWS_SESSION_TOKEN="+role.SessionToken, "CONSUL_EXTENSION_DIAL_TIMEOUT=1s")
	for name, value := range fn.Env {
		all = append(all, name+"="+value)
	}
	return all // what comes first counts
}

// of returns the results of one check.
func of(r Report, name string) []Result {
	return slices.DeleteFunc(slices.Clone(r.Results), func(r Result) bool { return r.Name != name })
}

const quick = 50 * time.Millisecond

func TestEveryResultIsToldInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	var told []Result
	report := Run(t.Context(), Config{Environ: environ(w), Watch: quick, Told: func(r Result) { told = append(told, r) }})
	if !slices.Equal(told, report.Results) {
		t.Errorf("told %+v, reported %+v", told, report.Results)
	}
	if !report.OK || report.Failed != 0 || report.Skipped == 0 {
		t.Errorf("%+v", report)
	}
	var names []string
	for _, r := range report.Results {
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	want := []string{"configuration", "store", "clock", "document", "key", "leaf", "chain", "identity", "gateway", "route", "intention", "port", "trail"}
	if !slices.Equal(names, want) {
		t.Errorf("checks %v, want %v", names, want)
	}
}

func TestNoTimeLeftIsSaid(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report := Run(ctx, Config{})
	if report.Skipped != len(checks) || !strings.Contains(report.Results[0].Detail, "no time was left") {
		t.Errorf("%+v", report)
	}
}

func TestADeadGatewayOfSeveralIsAWarning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	report := Run(t.Context(), Config{
		Environ: environ(w, "CONSUL_MESH_GATEWAY_URI=127.0.0.1:1,"+w.Mesh.Gateway.Addr()), Only: []string{lab.Web}, Watch: quick,
	})
	gateways := of(report, "gateway")
	if len(gateways) != 2 || gateways[0].Status != Warn || gateways[1].Status != OK || !report.OK {
		t.Errorf("%+v", report.Results)
	}
	if routes := of(report, "route"); len(routes) != 1 || routes[0].Status != OK {
		t.Errorf("%+v", routes)
	}
}

func TestEveryGatewayIsGoneThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	second, err := w.Mesh.AddGateway()
	if err != nil {
		t.Fatal(err)
	}
	report := Run(t.Context(), Config{
		Environ: environ(w, "CONSUL_MESH_GATEWAY_URI="+w.Mesh.Gateway.Addr()+","+second.Addr()), Only: []string{lab.Web}, Watch: quick,
	})
	routes := of(report, "route")
	if len(routes) != 2 || routes[0].Subject != "web:8080 through "+w.Mesh.Gateway.Addr() || routes[1].Subject != "web:8080 through "+second.Addr() {
		t.Errorf("%+v", routes)
	}
}

// resolver answers for one name.
type resolver struct {
	name  string
	addrs []netip.Addr
}

func (r resolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host != r.name {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return slices.Clone(r.addrs), nil
}

func TestEachAddressOfAGatewayIsTried(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	host, port, _ := net.SplitHostPort(w.Mesh.Gateway.Addr())
	names := resolver{"gateway.internal", []netip.Addr{netip.MustParseAddr("127.0.0.77"), netip.MustParseAddr(host)}}
	report := Run(t.Context(), Config{
		Environ: environ(w, "CONSUL_MESH_GATEWAY_URI=gateway.internal:"+port), Only: []string{lab.Web}, Watch: quick, Resolver: names,
	})
	r := of(report, "gateway")[0]
	if r.Status != Warn || !strings.Contains(r.Detail, "1 of its 2 addresses are dead: 127.0.0.77 refuses connections") {
		t.Errorf("%+v", r)
	}
	if routes := of(report, "route"); routes[0].Status != OK {
		t.Errorf("%+v", routes)
	}
	report = Run(t.Context(), Config{Environ: environ(w, "CONSUL_MESH_GATEWAY_URI=gateway.example:"+port), Watch: quick, Resolver: names})
	if r := of(report, "gateway")[0]; r.Status != Fail || !strings.Contains(r.Detail, "cannot be looked up: no such host") {
		t.Errorf("%+v", r)
	}
}

func TestCapitalsInANameAreWarnedOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	if _, err := w.AddService("Billing", 7100, meshsim.SidecarConfig{}); err != nil {
		t.Fatal(err)
	}
	report := Run(t.Context(), Config{Environ: environ(w), Only: []string{"Billing"}, Watch: quick})
	warned := slices.ContainsFunc(report.Results, func(r Result) bool {
		return r.Status == Warn && r.Subject == "Billing:7100" && strings.Contains(r.Detail, "capitals")
	})
	if !warned || !report.OK {
		t.Errorf("%+v", report.Results)
	}
}

func TestAnUpstreamThatIsNotConfiguredIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	report := Run(t.Context(), Config{Environ: environ(w), Only: []string{"wbe"}})
	if report.OK || report.Results[0].Detail != `no upstream is called "wbe"` {
		t.Errorf("%+v", report.Results)
	}
}

func TestWithoutUpstreamsThereIsNothingToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	report := Run(t.Context(), Config{Environ: environ(w, "CONSUL_SERVICE_UPSTREAMS=")})
	if !report.OK || report.Warned != 1 || w.Store.Count("") != 0 {
		t.Errorf("%+v", report.Results)
	}
}

func TestAPeerThatIsNotDescribedFailsItsUpstreamOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	report := Run(t.Context(), Config{Environ: environ(w, "CONSUL_SERVICE_UPSTREAMS=web:8080,cart.svc.west.peer:8100"), Watch: quick})
	routes := of(report, "route")
	if len(routes) != 2 || routes[0].Status != OK || routes[1].Status != Fail || !strings.Contains(routes[1].Remedy, "peering") {
		t.Errorf("%+v", routes)
	}
}

// R2: a destination under a root that the document does not have.
func TestADestinationUnderANewRootIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{CA: meshsim.CAConfig{NoCrossSign: true}})
	if err := w.RotateRoot(); err != nil {
		t.Fatal(err)
	}
	report := Run(t.Context(), Config{Environ: environ(w), Only: []string{lab.Web}, Watch: quick})
	if r := of(report, "route")[0]; r.Status != Fail || !strings.Contains(r.Detail, "not vouched for") {
		t.Errorf("%+v", r)
	}
}

func TestALeafNearItsEndIsAWarning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	now := time.Now()
	if _, err := w.StoreLeafWith(meshsim.LeafOptions{NotBefore: now.Add(-100 * time.Hour), NotAfter: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	r := of(Run(t.Context(), Config{Environ: environ(w), Only: []string{lab.Web}, Watch: quick}), "leaf")[0]
	if r.Status != Warn || !strings.Contains(r.Detail, "of 101h") {
		t.Errorf("%+v", r)
	}
}

func TestRootsThatAreOfNoUseAreNamed(t *testing.T) {
	t.Parallel()
	doc := certtest.Document(t, "checkout")
	good, broken := certificates(doc.RootCertPEM + "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")
	if len(good) != 1 || broken != 1 {
		t.Errorf("%d certificates, %d broken", len(good), broken)
	}
	if results := roots(mesh.Document{RootCertPEM: "no PEM"}); !failed(results) {
		t.Errorf("%+v", results)
	}
}

func TestAClockThatIsOffIsSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		date   string
		status Status
		says   string
	}{
		{time.Now().UTC().Format(http.TimeFormat), OK, "within"},
		{time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat), Warn, "ahead of the store's"},
		{time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), Fail, "behind the store's"},
		{"yesterday", Skip, "no date"},
	} {
		store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", c.date)
			w.WriteHeader(http.StatusNotFound)
		}))
		t.Cleanup(store.Close)
		w := newWorld(t, lab.Config{})
		report := Run(t.Context(), Config{Environ: environ(w, "AWS_ENDPOINT_URL_SSM="+store.URL), Only: []string{lab.Web}})
		if r := of(report, "clock")[0]; r.Status != c.status || !strings.Contains(r.Detail, c.says) {
			t.Errorf("%s: %+v", c.date, r)
		}
	}
}

func TestPortsAreThoseOfTheExtensionBesideUs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	cfg := Config{Environ: environ(w), Only: []string{lab.Web}, Watch: quick, Beside: true}
	report := Run(t.Context(), cfg)
	if r := of(report, "port")[0]; r.Status != Fail || !strings.Contains(r.Remedy, "layer") {
		t.Errorf("nobody listens: %+v", r)
	}
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", w.Addr(lab.Web))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	report = Run(t.Context(), cfg)
	if r := of(report, "port")[0]; r.Status != OK || !report.OK {
		t.Errorf("somebody listens: %+v", report.Results)
	}
}

func TestAPortThatTakesConnectionsAndIsSilentIsTheFirstSuspect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // nobody accepts: the kernel takes the connections
	report := Run(t.Context(), Config{
		Environ: environ(w, "CONSUL_MESH_GATEWAY_URI="+ln.Addr().String()+","+w.Mesh.Gateway.Addr(), "CONSUL_EXTENSION_DIAL_TIMEOUT=500ms"),
		Watch:   quick,
	})
	routes := of(report, "route")
	first, second := routes[0], routes[1]
	if first.Status != Fail || !strings.HasSuffix(first.Subject, " through "+ln.Addr().String()) || !strings.Contains(first.Remedy, "not a mesh gateway's") {
		t.Errorf("%+v", first)
	}
	if second.Status != Fail || second.Remedy != "as for "+first.Subject { // said once
		t.Errorf("%+v", second)
	}
	if last := routes[len(routes)-1]; last.Status != OK || !strings.HasSuffix(last.Subject, " through "+w.Mesh.Gateway.Addr()) {
		t.Errorf("%+v", last)
	}
}

// One destination that cannot be reached is no reason to doubt the gateway.
func TestTheGatewayIsNotBlamedForOneDestination(t *testing.T) {
	t.Parallel()
	hung, fine := Result{Name: "route", Subject: "web:8080", Status: Fail, Remedy: hungRemedy}, Result{Name: "route", Status: OK}
	found := [][]Result{{hung}, {fine}}
	blameSilent(found)
	if found[0][0].Remedy != hungRemedy || found[1][0].Remedy != "" {
		t.Errorf("%+v", found)
	}
	found[1][0] = hung
	blameSilent(found)
	if found[0][0].Remedy != silentRemedy || found[1][0].Remedy != "as for web:8080" {
		t.Errorf("%+v", found)
	}
}

func TestAMissingNameSaysHowToGiveOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	report := Run(t.Context(), Config{Environ: environ(w, "AWS_LAMBDA_FUNCTION_NAME=")})
	if r := report.Results[0]; r.Status != Fail || !strings.Contains(r.Detail, "AWS_LAMBDA_FUNCTION_NAME") || !strings.Contains(r.Remedy, "--function NAME") {
		t.Errorf("%+v", r)
	}
}

func TestTheRemedyOfAWrongSettingOfTheStoreIsItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	for setting, remedy := range map[string]string{
		"AWS_ENDPOINT_URL_SSM=garbage": "correct the variable that is named",
		"AWS_REGION=":                  "Lambda sets the region",
	} {
		r := of(Run(t.Context(), Config{Environ: environ(w, setting), Only: []string{lab.Web}, Watch: quick}), "store")[0]
		name, _, _ := strings.Cut(setting, "=")
		if r.Status != Fail || !strings.Contains(r.Detail, name) || !strings.Contains(r.Remedy, remedy) {
			t.Errorf("%s: %+v", setting, r)
		}
	}
}

func TestWhoseCredentialsWereUsedIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	for _, says := range []string{"cannot be told from here", "not with the function's role"} {
		r := of(Run(t.Context(), Config{Environ: environ(w), Only: []string{lab.Web}, Watch: quick, Borrowed: true}), "store")[0]
		if !strings.Contains(r.Detail, says) {
			t.Errorf("%+v", r)
		}
		w.Store.Delete(w.ParameterPath())
	}
}

func TestAnErrorOfNoStoreIsPassedOn(t *testing.T) {
	t.Parallel()
	if detail, remedy := explainStore(errors.New("oops")); detail != "oops" || remedy != "" {
		t.Errorf("%q, %q", detail, remedy)
	}
}
