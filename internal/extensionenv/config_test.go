// SPDX-License-Identifier: MPL-2.0

package extensionenv

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/consul-lambda/consul-lambda/internal/logs"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// variables are all that the extension's contract has, each with a value that it refuses.
var variables = map[string]string{
	"CONSUL_MESH_GATEWAY_URI":             "https://gw.example:8443",
	"CONSUL_EXTENSION_DATA_PREFIX":        "consul",
	"CONSUL_SERVICE_UPSTREAMS":            "db",
	"CONSUL_SERVICE_NAMESPACE":            "a.b",
	"CONSUL_SERVICE_PARTITION":            "a b",
	"CONSUL_REFRESH_FREQUENCY":            "soon",
	"CONSUL_EXTENSION_PROXY_TIMEOUT":      "-3s",
	"LOG_LEVEL":                           "verbose",
	"TRACE_ENABLED":                       "maybe",
	"CONSUL_EXTENSION_BIND_ADDR":          "localhost",
	"CONSUL_EXTENSION_WARM_CONNECTIONS":   "many",
	"CONSUL_EXTENSION_WARM_MAX_IDLE":      "0",
	"CONSUL_EXTENSION_DIAL_TIMEOUT":       "1ns",
	"CONSUL_EXTENSION_IDLE_TIMEOUT":       "30",
	"CONSUL_EXTENSION_MAX_CONNECTION_AGE": "1ms",
	"CONSUL_EXTENSION_MAX_CONNECTIONS":    "0",
	"CONSUL_EXTENSION_TLS_RESUMPTION":     "perhaps",
	"CONSUL_EXTENSION_STRICT":             "2",
	"CONSUL_EXTENSION_METRICS":            "prometheus",
}

// foreign are those that the function may use for itself.
var foreign = []string{"LOG_LEVEL", "TRACE_ENABLED"}

// environ returns the least environment that is valid, with changes.
func environment(changes map[string]string) []string {
	env := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":       "127.0.0.1:9001",
		"AWS_LAMBDA_FUNCTION_NAME":     "orders",
		"CONSUL_MESH_GATEWAY_URI":      "gw.example:8443",
		"CONSUL_EXTENSION_DATA_PREFIX": "/consul/lambda",
		"CONSUL_SERVICE_UPSTREAMS":     "db:5432,api.shop:8080",
	}
	for name, value := range changes {
		env[name] = value
	}
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// mustParse returns the config of the least environment with changes, which has to be valid.
func mustParse(tb testing.TB, changes map[string]string) Config {
	tb.Helper()
	c, err := Parse(environment(changes))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// lines returns the lines of an error, none for nil.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

var compare = cmp.Options{
	cmp.AllowUnexported(Config{}),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b mesh.Service) bool { return a == b }),
	cmp.Comparer(func(a, b mesh.Upstream) bool { return a == b }),
}

func service(tb testing.TB, name string) mesh.Service {
	tb.Helper()
	s, err := mesh.ParseService(name)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func upstreams(tb testing.TB, list string) []mesh.Upstream {
	tb.Helper()
	u, err := mesh.ParseUpstreams(list)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

// The defaults of the extension's contract.
func defaults(tb testing.TB) Config {
	tb.Helper()
	return Config{
		RuntimeAPI:     "127.0.0.1:9001",
		Gateways:       []string{"gw.example:8443"},
		Service:        service(tb, "orders"),
		ParameterPath:  "/consul/lambda/default/default/orders",
		Upstreams:      upstreams(tb, "db:5432,api.shop:8080"),
		Refresh:        5 * time.Minute,
		ProxyTimeout:   3 * time.Second,
		DialTimeout:    2 * time.Second,
		BindAddrs:      []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")},
		BindDefault:    true,
		Warm:           1,
		WarmFor:        map[mesh.Service]int{},
		WarmMaxIdle:    60 * time.Second,
		IdleTimeout:    0,
		MaxAge:         0,
		MaxConnections: 400,
		Resumption:     true,
		Strict:         false,
		EMF:            false,
		LogLevel:       slog.LevelInfo,
		Trace:          false,
	}
}

func TestTheLeastEnvironmentHasEveryDefault(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(defaults(t), mustParse(t, nil), compare); diff != "" {
		t.Error(diff)
	}
}

func TestAnEmptyValueMeansUnset(t *testing.T) {
	t.Parallel()
	changes := map[string]string{}
	for name := range variables {
		if !strings.HasPrefix(name, "CONSUL_MESH") && !strings.HasSuffix(name, "_PREFIX") && !strings.HasSuffix(name, "_UPSTREAMS") {
			changes[name] = " "
		}
	}
	if diff := cmp.Diff(defaults(t), mustParse(t, changes), compare); diff != "" {
		t.Error(diff)
	}
	if c := mustParse(t, map[string]string{"CONSUL_SERVICE_UPSTREAMS": ""}); c.Upstreams != nil {
		t.Errorf("upstreams %v", c.Upstreams)
	}
}

func TestEveryVariableIsRead(t *testing.T) {
	t.Parallel()
	got := mustParse(t, map[string]string{
		"CONSUL_MESH_GATEWAY_URI":             " a.example:1 , 10.0.0.1:65535,[2001:DB8::1]:8443, ",
		"CONSUL_EXTENSION_DATA_PREFIX":        "/x/",
		"CONSUL_SERVICE_UPSTREAMS":            " db.payments:1 , api:2:dc2 ",
		"CONSUL_SERVICE_NAMESPACE":            "shop",
		"CONSUL_SERVICE_PARTITION":            "eu",
		"CONSUL_REFRESH_FREQUENCY":            "1s",
		"CONSUL_EXTENSION_PROXY_TIMEOUT":      "1ms",
		"LOG_LEVEL":                           "Trace",
		"TRACE_ENABLED":                       "TrUe",
		"CONSUL_EXTENSION_BIND_ADDR":          "0.0.0.0 , ::1",
		"CONSUL_EXTENSION_WARM_CONNECTIONS":   " 2, db.payments = 0 ,api=32,",
		"CONSUL_EXTENSION_WARM_MAX_IDLE":      "5m",
		"CONSUL_EXTENSION_DIAL_TIMEOUT":       "10ms",
		"CONSUL_EXTENSION_IDLE_TIMEOUT":       "1s",
		"CONSUL_EXTENSION_MAX_CONNECTION_AGE": "1h30m",
		"CONSUL_EXTENSION_MAX_CONNECTIONS":    "1",
		"CONSUL_EXTENSION_TLS_RESUMPTION":     "F",
		"CONSUL_EXTENSION_STRICT":             "1",
		"CONSUL_EXTENSION_METRICS":            "EMF",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE":     "128",
	})
	eu, err := mesh.NewService("orders", "shop", "eu")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		RuntimeAPI:     "127.0.0.1:9001",
		Gateways:       []string{"a.example:1", "10.0.0.1:65535", "[2001:db8::1]:8443"},
		Service:        eu,
		ParameterPath:  "/x/eu/shop/orders",
		Upstreams:      upstreams(t, "db.payments:1,api:2:dc2"),
		Refresh:        time.Second,
		ProxyTimeout:   time.Millisecond,
		DialTimeout:    10 * time.Millisecond,
		BindAddrs:      []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Loopback()},
		Warm:           2,
		WarmFor:        map[mesh.Service]int{service(t, "db.payments"): 0, service(t, "api"): 32},
		WarmMaxIdle:    5 * time.Minute,
		IdleTimeout:    time.Second,
		MaxAge:         90 * time.Minute,
		MaxConnections: 1,
		Strict:         true,
		EMF:            true,
		LogLevel:       logs.LevelTrace,
		Trace:          true,
		MemoryMB:       128,
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
}

// R12: the function's author sees everything that is wrong at once, and the extension can still report it.
func TestAllErrorsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	c, err := Parse(environment(variables))
	got := lines(err)
	for name, value := range variables {
		where := got
		if slices.Contains(foreign, name) {
			where = c.Warnings
		}
		n := 0
		for _, line := range where {
			if strings.HasPrefix(line, name+": ") {
				n++
				if !strings.Contains(line, fmt.Sprintf("%q", value)) {
					t.Errorf("%q does not name the value %q", line, value)
				}
				if !strings.Contains(line, "; accepted: ") && !strings.Contains(line, ": want ") {
					t.Errorf("%q does not say what is accepted", line)
				}
			}
		}
		if n != 1 {
			t.Errorf("%s is named %d times, want once, in\n%s", name, n, strings.Join(where, "\n"))
		}
	}
	if n := len(variables) - len(foreign); len(got) != n {
		t.Errorf("%d errors, want %d:\n%v", len(got), n, err)
	}
	if c.RuntimeAPI != "127.0.0.1:9001" || c.LogLevel != slog.LevelInfo {
		t.Errorf("config %+v cannot be used to report the error", c)
	}
}

func TestAnErrorReadsAsASentence(t *testing.T) {
	t.Parallel()
	_, err := Parse(environment(map[string]string{
		"AWS_LAMBDA_RUNTIME_API":            "",
		"CONSUL_MESH_GATEWAY_URI":           "gw:8443,https://gw2:8443",
		"CONSUL_EXTENSION_DATA_PREFIX":      "/",
		"CONSUL_REFRESH_FREQUENCY":          "soon",
		"CONSUL_EXTENSION_IDLE_TIMEOUT":     "1ms",
		"CONSUL_EXTENSION_DIAL_TIMEOUT":     "1h",
		"CONSUL_EXTENSION_MAX_CONNECTIONS":  "65536",
		"CONSUL_EXTENSION_WARM_CONNECTIONS": "1,cache=0",
		"CONSUL_EXTENSION_METRICS":          "on",
	}))
	_, prefix := service(t, "orders").ParameterPath("/") // whose words are tested where they are written
	want := []string{
		`AWS_LAMBDA_RUNTIME_API: not set; accepted: the address that Lambda sets`,
		`CONSUL_REFRESH_FREQUENCY: "soon" is not a duration; accepted: a Go duration of at least 1s such as 90s`,
		`CONSUL_EXTENSION_DIAL_TIMEOUT: "1h" is out of range; accepted: a Go duration of at least 10ms and at most 15m0s such as 90s`,
		`CONSUL_EXTENSION_IDLE_TIMEOUT: "1ms" is out of range; accepted: a Go duration of at least 1s such as 90s, or 0 for none`,
		`CONSUL_EXTENSION_MAX_CONNECTIONS: "65536" is out of range; accepted: a whole number from 1 to 65535`,
		`CONSUL_EXTENSION_METRICS: "on" is not one of them; accepted: off or emf`,
		`CONSUL_MESH_GATEWAY_URI: "https://gw2:8443" has a scheme; accepted: host:port with a host name, an IPv4 address or an IPv6 address in brackets, or several separated by commas`,
		`CONSUL_EXTENSION_DATA_PREFIX: ` + prefix.Error(),
		`CONSUL_EXTENSION_WARM_CONNECTIONS: "cache=0" names no upstream; accepted: a whole number from 0 to 32, and exceptions from it for services in CONSUL_SERVICE_UPSTREAMS, such as 1,db=0`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsRequiredIsAskedFor(t *testing.T) {
	t.Parallel()
	_, err := Parse(nil)
	var got []string
	for _, line := range lines(err) {
		name, _, _ := strings.Cut(line, ": not set; accepted: ")
		got = append(got, name)
	}
	slices.Sort(got)
	want := []string{"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_RUNTIME_API", "CONSUL_EXTENSION_DATA_PREFIX", "CONSUL_MESH_GATEWAY_URI"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEachBadValueIsOneErrorOfItsVariable(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	for name, values := range map[string][]string{
		"AWS_LAMBDA_FUNCTION_NAME": {"a.b", "a b", "a/b"},
		"CONSUL_MESH_GATEWAY_URI": {
			"gw", "gw:", ":8443", "gw:0", "gw:65536", "gw:-1", "gw:+1", "gw:http", "gw:8443/", "gw:8443/path", "http://gw:8443", "u@gw:8443",
			"::1:8443", "[::1]", "[gw]:8443", "[10.0.0.1]:8443", "10.0.0.256:8443", "10.0.0:8443", "a..b:1", ".:1", "a b:1", "é:1",
			long + ":1", strings.Repeat("a.", 127) + "a:1", "gw:1,,gw2:1", ",gw:1", ",", "gw:1,gw2",
		},
		"CONSUL_EXTENSION_DATA_PREFIX": {"/", "//", "/a//", "a/b", "/a b", "/aws/x", "/" + strings.Repeat("a/", 14) + "a", "/" + strings.Repeat("a", 1000)},
		"CONSUL_SERVICE_UPSTREAMS":     {"db", "db:0", "db:9001", "db:1,api:1", "db:1,,api:2"},
		"CONSUL_SERVICE_NAMESPACE":     {"a.b", "a/b"},
		"CONSUL_SERVICE_PARTITION":     {"a.b", "a/b"},
		"CONSUL_REFRESH_FREQUENCY":     {"0", "-5m", "999ms", "5", "5 m", "1e3s", "99999999h"},
		"CONSUL_EXTENSION_PROXY_TIMEOUT": {
			"0", "999us", "3",
		},
		"CONSUL_EXTENSION_DIAL_TIMEOUT":       {"0", "-2s", "9ms", "15m1s"},
		"CONSUL_EXTENSION_WARM_MAX_IDLE":      {"0", "-1s", "999ms", "5m1s"},
		"CONSUL_EXTENSION_IDLE_TIMEOUT":       {"-1s", "999ms", "-0.5s"},
		"CONSUL_EXTENSION_MAX_CONNECTION_AGE": {"-1s", "999ms"},
		"CONSUL_EXTENSION_MAX_CONNECTIONS":    {"0", "-1", "1.5", "65536", "99999999999999999999", "0x10", "1_000"},
		"CONSUL_EXTENSION_WARM_CONNECTIONS": {
			"-1", "33", "1,2", "db=", "=1", "db=-1", "db=33", "db=1,db=2", "db=1=2", "cache=1", "a.b.c.d=1", "1,,db=0", "api=0", "db:5432=0",
		},
		"CONSUL_EXTENSION_BIND_ADDR":      {"localhost", "127.0.0.1:80", "[::1]", "127.1", "127.0.0.1,,::1", "::g"},
		"CONSUL_EXTENSION_TLS_RESUMPTION": {"yes", "on", "2"},
		"CONSUL_EXTENSION_STRICT":         {"no", "-1"},
		"CONSUL_EXTENSION_METRICS":        {"true", "statsd", "emf,off"},
	} {
		for _, value := range values {
			_, err := Parse(environment(map[string]string{name: value}))
			got := lines(err)
			if len(got) != 1 || !strings.HasPrefix(got[0], name+": ") {
				t.Errorf("%s=%q: errors %q, want one of that variable", name, value, got)
			}
		}
	}
}

func TestAnErrorDoesNotHideAnother(t *testing.T) {
	t.Parallel()
	_, err := Parse(environment(map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":          "a.b",
		"CONSUL_SERVICE_NAMESPACE":          "a.b",
		"CONSUL_EXTENSION_DATA_PREFIX":      "x",
		"CONSUL_SERVICE_UPSTREAMS":          "db,api",
		"CONSUL_MESH_GATEWAY_URI":           "x,y",
		"CONSUL_EXTENSION_WARM_CONNECTIONS": "db=0,api=99",
	}))
	var got []string
	for _, line := range lines(err) {
		name, _, _ := strings.Cut(line, ": ")
		got = append(got, name)
	}
	// "db=0" is no error: whether it names an upstream cannot be told while the upstreams cannot be read.
	want := []string{
		"CONSUL_MESH_GATEWAY_URI", "CONSUL_MESH_GATEWAY_URI", "AWS_LAMBDA_FUNCTION_NAME", "CONSUL_SERVICE_NAMESPACE",
		"CONSUL_EXTENSION_DATA_PREFIX", "CONSUL_SERVICE_UPSTREAMS", "CONSUL_SERVICE_UPSTREAMS", "CONSUL_EXTENSION_WARM_CONNECTIONS",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%v", diff, err)
	}
}

// LOG_LEVEL and TRACE_ENABLED belong to the function too.
func TestAForeignValueOfASharedVariableIsOneWarningAndTheDefault(t *testing.T) {
	t.Parallel()
	for _, name := range foreign {
		c := mustParse(t, map[string]string{name: "WARNING"})
		if c.LogLevel != slog.LevelInfo || c.Trace || len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], name+`: "WARNING" is not `) {
			t.Errorf("%s: level %v, trace %v, warnings %q", name, c.LogLevel, c.Trace, c.Warnings)
		}
	}
}

func TestLogLevelsAreTakenInAnyCase(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]slog.Level{
		"trace": -8, "DEBUG": slog.LevelDebug, "Info": slog.LevelInfo, "wArn": slog.LevelWarn, "error": slog.LevelError, " off ": math.MaxInt,
	} {
		if c := mustParse(t, map[string]string{"LOG_LEVEL": value}); c.LogLevel != want || c.Warnings != nil {
			t.Errorf("%q: level %d, warnings %q", value, c.LogLevel, c.Warnings)
		}
	}
}

func TestARepeatedEntryCountsOnceWithAWarning(t *testing.T) {
	t.Parallel()
	c := mustParse(t, map[string]string{
		"CONSUL_MESH_GATEWAY_URI":    "gw:1,GW:1,[::1]:2,[0:0::1]:2,gw:2,10.0.0.1:3,[::ffff:10.0.0.1]:3,gw.example.:4",
		"CONSUL_EXTENSION_BIND_ADDR": "127.0.0.1,::ffff:127.0.0.1",
	})
	if want := []string{"gw:1", "[::1]:2", "gw:2", "10.0.0.1:3", "gw.example.:4"}; !slices.Equal(c.Gateways, want) {
		t.Errorf("gateways %q, want %q", c.Gateways, want)
	}
	if want := []netip.Addr{netip.MustParseAddr("127.0.0.1")}; !slices.Equal(c.BindAddrs, want) {
		t.Errorf("bind addresses %v, want %v", c.BindAddrs, want)
	}
	if len(c.Warnings) != 4 || !strings.Contains(c.Warnings[0], `CONSUL_MESH_GATEWAY_URI: "GW:1" is there twice`) {
		t.Errorf("warnings %q", c.Warnings)
	}
}

// ::1 may be missing in a sandbox where nobody asked for it.
func TestAnAddressThatWasAskedForIsNotADefault(t *testing.T) {
	t.Parallel()
	if c := mustParse(t, map[string]string{"CONSUL_EXTENSION_BIND_ADDR": "127.0.0.1,::1"}); c.BindDefault {
		t.Error("what was asked for is taken for the default")
	}
}

func TestAnExceptionHoldsForEveryUpstreamOfItsService(t *testing.T) {
	t.Parallel()
	c := mustParse(t, map[string]string{
		"CONSUL_SERVICE_UPSTREAMS":          "db:1,db:2:dc2,db.svc.east.peer:3,db.shop:4,api:5",
		"CONSUL_EXTENSION_WARM_CONNECTIONS": "3,db=0,db.shop=2",
	})
	var got []int
	for _, u := range c.Upstreams {
		got = append(got, c.Spares(u))
	}
	if want := []int{0, 0, 0, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("spares %v, want %v", got, want)
	}
}

func TestTheMemorySizeIsZeroUnlessItIsOne(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{"128": 128, "1048576": 1048576, "1048577": 0, "0": 0, "-1": 0, "lots": 0, "": 0, "99999999999999999999": 0} {
		if c := mustParse(t, map[string]string{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": value}); c.MemoryMB != want {
			t.Errorf("%q: %d MB, want %d", value, c.MemoryMB, want)
		}
	}
}

func TestAMistypedSettingIsAWarning(t *testing.T) {
	t.Parallel()
	c := mustParse(t, map[string]string{"CONSUL_EXTENSION_DAIL_TIMEOUT": "1s", "CONSUL_HTTP_ADDR": "x", "CONSUL_EXTENSION_STRICT": "true"})
	if want := []string{"CONSUL_EXTENSION_DAIL_TIMEOUT: not a setting of this version; it is ignored"}; !slices.Equal(c.Warnings, want) {
		t.Errorf("warnings %q, want %q", c.Warnings, want)
	}
}

func TestTheFirstOfTwoEqualNamesCountsAsForGetenv(t *testing.T) {
	t.Parallel()
	c, err := Parse(append(environment(nil), "CONSUL_REFRESH_FREQUENCY=1m", "CONSUL_REFRESH_FREQUENCY=2m", "NOVALUE"))
	if err != nil || c.Refresh != time.Minute {
		t.Errorf("refresh %v, error %v", c.Refresh, err)
	}
}

// FuzzConfig holds, for any value of any variable: the extension can always report what is wrong, each line of an error
// names a variable that was set, and what is accepted is within its bounds and is accepted again as it is written.
func FuzzConfig(f *testing.F) {
	names := []string{"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"}
	for name := range variables {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		f.Add(uint8(i), variables[name])
	}
	f.Add(uint8(slices.Index(names, "CONSUL_MESH_GATEWAY_URI")), "A.example.:1,[fe80::1%Eth0]:2,")
	f.Add(uint8(slices.Index(names, "CONSUL_EXTENSION_WARM_CONNECTIONS")), "3,db=0,api.shop=32")
	f.Add(uint8(slices.Index(names, "CONSUL_EXTENSION_IDLE_TIMEOUT")), "1h1m1.5s")
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		name := names[int(which)%len(names)]
		c, err := Parse(environment(map[string]string{name: value}))
		if c.RuntimeAPI != "127.0.0.1:9001" {
			t.Errorf("runtime API %q", c.RuntimeAPI)
		}
		for _, line := range lines(err) {
			if !strings.HasPrefix(line, name+": ") {
				t.Errorf("%s=%q: error %q", name, value, line)
			}
		}
		if err != nil {
			return
		}
		between := func(what string, v, low, high int64) {
			if v < low || v > high {
				t.Errorf("%s=%q: %s is %d", name, value, what, v)
			}
		}
		between("refresh", int64(c.Refresh), int64(time.Second), math.MaxInt64)
		between("proxyTimeout", int64(c.ProxyTimeout), int64(time.Millisecond), math.MaxInt64)
		between("dialTimeout", int64(c.DialTimeout), int64(10*time.Millisecond), int64(15*time.Minute))
		between("warmMaxIdle", int64(c.WarmMaxIdle), int64(time.Second), int64(5*time.Minute))
		between("maxConns", int64(c.MaxConnections), 1, math.MaxUint16)
		between("functionMemoryMB", int64(c.MemoryMB), 0, 1<<20)
		for _, d := range []time.Duration{c.IdleTimeout, c.MaxAge} {
			if d != 0 {
				between("a timeout that is on", int64(d), int64(time.Second), math.MaxInt64)
			}
		}
		for _, u := range c.Upstreams {
			between("spares", int64(c.Spares(u)), 0, 32)
		}
		if len(c.Gateways) == 0 || len(c.BindAddrs) == 0 || c.Service.IsZero() || !strings.HasPrefix(c.ParameterPath, "/") {
			t.Errorf("%s=%q: incomplete config %+v", name, value, c)
		}
		var addrs []string
		for _, addr := range c.BindAddrs {
			addrs = append(addrs, addr.String())
		}
		again := mustParse(t, map[string]string{
			"CONSUL_MESH_GATEWAY_URI":             strings.Join(c.Gateways, ","),
			"CONSUL_EXTENSION_BIND_ADDR":          strings.Join(addrs, ","),
			"CONSUL_REFRESH_FREQUENCY":            c.Refresh.String(),
			"CONSUL_EXTENSION_IDLE_TIMEOUT":       c.IdleTimeout.String(),
			"CONSUL_EXTENSION_MAX_CONNECTION_AGE": c.MaxAge.String(),
		})
		if !slices.Equal(again.Gateways, c.Gateways) || !slices.Equal(again.BindAddrs, c.BindAddrs) ||
			again.Refresh != c.Refresh || again.IdleTimeout != c.IdleTimeout || again.MaxAge != c.MaxAge {
			t.Errorf("%s=%q: read %+v again as %+v", name, value, c, again)
		}
	})
}

// BenchmarkParseConfig asks what the configuration costs before the extension registers. It cannot see the first run
// of a new process.
func BenchmarkParseConfig(b *testing.B) {
	env := environment(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(env); err != nil {
			b.Fatal(err)
		}
	}
}
