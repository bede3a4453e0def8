// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestUpstreamReadsBothFormsAndPrintsTheCanonicalOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, service, peer, datacenter string
		port                          int
		canonical                     string
	}{
		// The plain form.
		{"web:80", "web", "", "", 80, "web:80"},
		{"web:80:dc2", "web", "", "dc2", 80, "web:80:dc2"},
		{"web.pay:1", "web.pay", "", "", 1, "web.pay:1"},
		{"web.pay.ap1:65535", "web.pay.ap1", "", "", 65535, "web.pay.ap1:65535"},
		{"web.pay.ap1:80:dc2", "web.pay.ap1", "", "dc2", 80, "web.pay.ap1:80:dc2"},
		{"web.default.default:80", "web", "", "", 80, "web:80"},
		{"web.default.ap1:80", "web.default.ap1", "", "", 80, "web.default.ap1:80"},
		{"Web_Service-1:80:DC_2", "Web_Service-1", "", "DC_2", 80, "Web_Service-1:80:DC_2"},
		{"web:0080", "web", "", "", 80, "web:80"},
		{"1:2:3", "1", "", "3", 2, "1:2:3"},

		// The labelled form.
		{"web.svc:80", "web", "", "", 80, "web:80"},
		{"web.svc.pay.ns:80", "web.pay", "", "", 80, "web.pay:80"},
		{"web.svc.ap1.ap:80", "web.default.ap1", "", "", 80, "web.default.ap1:80"},
		{"web.svc.default.ns.default.ap:80", "web", "", "", 80, "web:80"},
		{"web.svc.pay.ns.ap1.ap:80", "web.pay.ap1", "", "", 80, "web.pay.ap1:80"},
		{"web.svc.east.peer:80", "web", "east", "", 80, "web.svc.east.peer:80"},
		{"web.svc.pay.ns.east.peer:80", "web.pay", "east", "", 80, "web.svc.pay.ns.east.peer:80"},
		{"web.svc.default.ns.default.peer:80", "web", "default", "", 80, "web.svc.default.peer:80"},
		{"web.svc.dc2.dc:80", "web", "", "dc2", 80, "web:80:dc2"},
		{"web.svc.pay.ns.dc2.dc:80", "web.pay", "", "dc2", 80, "web.pay:80:dc2"},

		// Where "svc" could be either: exactly the second part is the label.
		{"svc:80", "svc", "", "", 80, "svc:80"},
		{"svc.svc:80", "svc", "", "", 80, "svc:80"},
		{"svc.pay:80", "svc.pay", "", "", 80, "svc.pay:80"},
		{"web.pay.svc:80", "web.pay.svc", "", "", 80, "web.pay.svc:80"},
		{"web.SVC:80", "web.SVC", "", "", 80, "web.SVC:80"},
		{"web.svc.svc.ns:80", "web.svc", "", "", 80, "web.svc.svc.ns:80"},
		{"web.svc.svc.ns.svc.ap:80", "web.svc.svc", "", "", 80, "web.svc.svc.ns.svc.ap:80"},
		{"web.svc.svc.ns.svc.dc:80", "web.svc", "", "svc", 80, "web.svc.svc.ns.svc.dc:80"},
		{"web.svc.svc.ns.svc.peer:80", "web.svc", "svc", "", 80, "web.svc.svc.ns.svc.peer:80"},

		// Values that are spelled like labels.
		{"web.svc.ns.ns:80", "web.ns", "", "", 80, "web.ns:80"},
		{"web.svc.peer.ns.dc.peer:80", "web.peer", "dc", "", 80, "web.svc.peer.ns.dc.peer:80"},
		{"web.svc.ns.ap:80", "web.default.ns", "", "", 80, "web.default.ns:80"},
		{"web.ns.ap:80", "web.ns.ap", "", "", 80, "web.ns.ap:80"},
	} {
		u, err := ParseUpstream(c.in)
		if err != nil {
			t.Errorf("ParseUpstream(%q): %v", c.in, err)
			continue
		}
		if u.Service() != must(ParseService(c.service)) || u.Peer() != c.peer || u.Datacenter() != c.datacenter || u.Port() != c.port {
			t.Errorf("ParseUpstream(%q) = %v, peer %q, datacenter %q, port %d", c.in, u.Service(), u.Peer(), u.Datacenter(), u.Port())
		}
		if u.String() != c.canonical {
			t.Errorf("ParseUpstream(%q) prints %q, want %q", c.in, u, c.canonical)
		}
		if again := must(ParseUpstream(u.String())); again != u {
			t.Errorf("%q is read as %v, want %v", u, again, u)
		}
	}
}

func TestUpstreamRefusesWhatTheGrammarDoesNotSay(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	for _, c := range []struct{ in, text string }{
		{"", "no port"},
		{"web", "no port"},
		{":80", `name ""`},
		{".pay:80", `name ""`},
		{"web.:80", `namespace ""`},
		{"web..ap1:80", `namespace ""`},
		{"web.pay.:80", `partition ""`},
		{"web.pay.ap1.x:80", "4 parts"},
		{" web:80", `name " web"`},
		{"web :80", `name "web "`},
		{"web/x:80", `name "web/x"`},
		{"prepared_query:web:80", `port "web"`},

		{"web:", `port ""`},
		{"web:0", `port "0"`},
		{"web:00", `port "00"`},
		{"web:65536", `port "65536"`},
		{"web:18446744073709551696", "1 to 65535"}, // 80 modulo 2^64
		{"web:9001", "9001"},
		{"web:09001", "9001"},
		{"web:-1", `port "-1"`},
		{"web:+80", `port "+80"`},
		{"web: 80", `port " 80"`},
		{"web:80 ", `port "80 "`},
		{"web:8_0", `port "8_0"`},
		{"web:0x50", `port "0x50"`},
		{"web:８０", `port "８０"`}, // digits, not of ASCII

		{"web:80:", `datacenter ""`},
		{"web:80:dc1:x", `datacenter "dc1:x"`},
		{"web:80:dc.1", `datacenter "dc.1"`},

		{".svc:80", `name ""`},
		{"web.svc:80:dc2", `datacenter "dc2" after the port`},
		{"web.svc:80:", `datacenter "" after the port`},
		{"web.svc.dc2.dc:80:dc2", `datacenter "dc2" after the port`},
		{"web.svc.:80", `"" after "web.svc"`},
		{"web.svc.pay:80", `"pay" after "web.svc"`},
		{"web.svc.ap1:80:dc2", `datacenter "dc2" after the port`},
		{"web.svc.ns:80", `"ns" after "web.svc"`},
		{"web.svc..ns:80", `namespace ""`},
		{"web.svc..ap:80", `partition ""`},
		{"web.svc..peer:80", `peer ""`},
		{"web.svc..dc:80", `datacenter ""`},
		{"web.svc.pay.NS:80", `label "NS"`},
		{"web.svc.pay.svc:80", `label "svc"`},
		{"web.svc.a.ns.b.ns:80", `label "ns"`},
		{"web.svc.a.ap.b.ns:80", `"a.ap.b.ns" after "web.svc"`}, // the order is fixed
		{"web.svc.a.ap.b.dc:80", `"a.ap.b.dc" after "web.svc"`},
		{"web.svc.a.ns.b.ap.c.dc:80", `"b.ap.c.dc" after "web.svc"`},
		{"web.svc.a.ns.b.peer.c.ap:80", `"b.peer.c.ap" after "web.svc"`},

		{long + ":80", "64 bytes"},
		{"web." + long + ":80", "64 bytes"},
		{"web.pay." + long + ":80", "64 bytes"},
		{"web:80:" + long, "64 bytes"},
		{"web.svc." + long + ".peer:80", "64 bytes"},
		{"web.svc." + long + ".dc:80", "64 bytes"},
	} {
		got, err := ParseUpstream(c.in)
		checkRefused(t, got, err, ErrUpstream, c.text, fmt.Sprintf("%q", c.in))
	}
}

func TestUpstreamThatIsJustShortEnoughFitsAServerName(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	entry := label + "." + label + "." + label + ":80:datac"
	u := must(ParseUpstream(entry))
	if n := len(must(ServiceSNI(u.Service(), u.Datacenter(), testTrustDomain)).String()); n != 253 {
		t.Errorf("server name has %d bytes", n)
	}
	got, err := ParseUpstream(entry + "x")
	checkRefused(t, got, err, ErrUpstream, "254 bytes", "253")
}

func TestUpstreamListTrimsSpaceAndTakesOneTrailingComma(t *testing.T) {
	t.Parallel()
	web, db := must(ParseUpstream("web:80")), must(ParseUpstream("db.pay:81:dc2"))
	for _, c := range []struct {
		in   string
		want []Upstream
	}{
		{"", nil},
		{" \t\n", nil},
		{"web:80", []Upstream{web}},
		{" web:80 ", []Upstream{web}},
		{"web:80,db.pay:81:dc2", []Upstream{web, db}},
		{"\n web:80 ,\n\tdb.pay:81:dc2\n", []Upstream{web, db}},
		{"web:80,", []Upstream{web}},
		{"web:80 , ", []Upstream{web}},
	} {
		got, err := ParseUpstreams(c.in)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("ParseUpstreams(%q) = %v, %v, want %v", c.in, got, err, c.want)
		}
	}
}

func TestUpstreamListReportsAllErrorsALineEach(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in    string
		texts []string // one for each line
	}{
		{",", []string{"entry 1 of 1 is empty"}},
		{",,", []string{"entry 1 of 2 is empty", "entry 2 of 2 is empty"}},
		{"web:80,,", []string{"entry 2 of 2 is empty"}},
		{",web:80", []string{"entry 1 of 2 is empty"}},
		{"web:80, ,db:81", []string{"entry 2 of 3 is empty"}},
		{"web:0,ok:1,db:x, :80,a b:81", []string{`"web:0"`, `"db:x"`, `":80"`, `"a b:81"`}},
		{"web:80,db:80", []string{`"db:80": port 80 is taken by "web:80"`}},
		{"web:80,web:80", []string{`"web:80": port 80 is taken by "web:80"`}},
		{"web.svc:80,db.svc.pay.ns:080,x:80", []string{`"db.svc.pay.ns:080": port 80 is taken by "web.svc:80"`, `"x:80": port 80 is taken by "web.svc:80"`}},
		{"a\nb:80", []string{`"a\nb:80"`}},
	} {
		got, err := ParseUpstreams(c.in)
		if err == nil || got != nil {
			t.Errorf("ParseUpstreams(%q) = %v, %v, want an error alone", c.in, got, err)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(c.texts) {
			t.Errorf("ParseUpstreams(%q) has %d errors, want %d: %v", c.in, len(lines), len(c.texts), err)
			continue
		}
		for i, line := range lines {
			if !strings.Contains(line, c.texts[i]) || !strings.Contains(line, "want") {
				t.Errorf("error %q does not hold %q", line, c.texts[i])
			}
		}
		if !errors.Is(err, ErrUpstream) {
			t.Errorf("%v does not wrap ErrUpstream", err)
		}
	}
}

func TestUpstreamZeroValuePrintsNothing(t *testing.T) {
	t.Parallel()
	if u := (Upstream{}); u.String() != "" || u.Port() != 0 || !u.Service().IsZero() {
		t.Errorf("zero Upstream prints %q, port %d", u, u.Port())
	}
}

var upstreamSeeds = []string{
	"web:80", "web.pay.ap1:80:dc2", "web.svc:80", "web.svc.pay.ns.east.peer:81", "web.svc.svc.ns.dc.dc:82",
	"web.svc.ap1.ap:83", "a:9001", "a..b:1", "a:+1", "web.default.default:65535", "a:1:",
}

func checkUpstream(t testing.TB, u Upstream) {
	t.Helper()
	if again, err := ParseUpstream(u.String()); err != nil || again != u {
		t.Errorf("%q is read as %v, %v", u, again, err)
	}
	if u.Port() < 1 || u.Port() > 65535 || u.Port() == 9001 {
		t.Errorf("%q has port %d", u, u.Port())
	}
	if u.Peer() != "" && (u.Datacenter() != "" || u.Service().Partition() != "default") {
		t.Errorf("%q has a peer and a datacenter or a partition", u)
	}

	datacenter := u.Datacenter()
	if datacenter == "" {
		datacenter = "x"
	}
	checkServiceNames(t, u.Service(), datacenter, testTrustDomain)
	// An upstream, unlike any service, always has a server name.
	var err error
	if u.Peer() != "" {
		_, err = PeeredSNI(u.Service(), "x", testTrustDomain)
	} else {
		_, err = ServiceSNI(u.Service(), datacenter, testTrustDomain)
	}
	if err != nil {
		t.Errorf("%q has no server name: %v", u, err)
	}
}

func FuzzParseUpstream(f *testing.F) {
	for _, s := range upstreamSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		u, err := ParseUpstream(in)
		if err != nil {
			checkRefused(t, u, err, ErrUpstream, fmt.Sprintf("%q", in))
			return
		}
		checkUpstream(t, u)
	})
}

// An accepted list has distinct ports and is read back from its canonical entries.
func FuzzParseUpstreams(f *testing.F) {
	f.Add("")
	f.Add(" web:80 , db.svc.pay.ns:81,")
	f.Add(",a:1,,b:1")
	f.Add(strings.Join(upstreamSeeds, ","))
	f.Fuzz(func(t *testing.T, in string) {
		upstreams, err := ParseUpstreams(in)
		if err != nil {
			if upstreams != nil || !errors.Is(err, ErrUpstream) {
				t.Errorf("%q gives %v beside %v", in, upstreams, err)
			}
			return
		}
		ports := make(map[int]Upstream)
		var entries []string
		for _, u := range upstreams {
			checkUpstream(t, u)
			if other, taken := ports[u.Port()]; taken {
				t.Errorf("%q: %v and %v share a port", in, other, u)
			}
			ports[u.Port()] = u
			entries = append(entries, u.String())
		}
		again, err := ParseUpstreams(strings.Join(entries, ","))
		if err != nil || !reflect.DeepEqual(again, upstreams) {
			t.Errorf("%q is read back as %v, %v", entries, again, err)
		}
	})
}
