// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestIDHasTheFormsThatConsulSigns(t *testing.T) {
	t.Parallel()
	const td = "spiffe://" + testTrustDomain
	for _, c := range []struct {
		id   ID
		want string
	}{
		{must(ServiceID(must(ParseService("web")), "dc1", testTrustDomain)), td + "/ns/default/dc/dc1/svc/web"},
		{must(ServiceID(must(ParseService("web.pay")), "dc1", testTrustDomain)), td + "/ns/pay/dc/dc1/svc/web"},
		{must(ServiceID(must(ParseService("web.default.ap1")), "dc1", testTrustDomain)), td + "/ap/ap1/ns/default/dc/dc1/svc/web"},
		{must(ServiceID(must(ParseService("Web_1.Pay.AP")), "DC1", testTrustDomain)), td + "/ap/AP/ns/Pay/dc/DC1/svc/Web_1"},
		{must(GatewayID("", "dc1", testTrustDomain)), td + "/gateway/mesh/dc/dc1"},
		{must(GatewayID("default", "dc1", testTrustDomain)), td + "/gateway/mesh/dc/dc1"},
		{must(GatewayID("ap1", "dc2", testTrustDomain)), td + "/ap/ap1/gateway/mesh/dc/dc2"},
		// Names that are spelled like the fixed segments.
		{must(ServiceID(must(ParseService("svc.dc.ap")), "ns", testTrustDomain)), td + "/ap/ap/ns/dc/dc/ns/svc/svc"},
		{must(GatewayID("ns", "gateway", testTrustDomain)), td + "/ap/ns/gateway/mesh/dc/gateway"},
	} {
		if c.id.String() != c.want {
			t.Errorf("ID is %q, want %q", c.id, c.want)
		}
		if got := must(ParseID(must(url.Parse(c.want)))); got != c.id {
			t.Errorf("%q is read as %v", c.want, got)
		}
		checkID(t, c.id)
	}
}

func TestIDGivesItsParts(t *testing.T) {
	t.Parallel()
	s := must(ParseService("web.pay.ap1"))
	id := must(ServiceID(s, "dc1", "td"))
	if got, ok := id.Service(); !ok || got != s || id.Datacenter() != "dc1" || id.TrustDomain() != "td" {
		t.Errorf("%v: service %v %v, datacenter %q, trust domain %q", id, got, ok, id.Datacenter(), id.TrustDomain())
	}
	gateway := must(GatewayID("ap1", "dc2", "td"))
	if got, ok := gateway.Service(); ok || !got.IsZero() || gateway.Datacenter() != "dc2" || gateway.TrustDomain() != "td" {
		t.Errorf("%v: service %v %v, datacenter %q, trust domain %q", gateway, got, ok, gateway.Datacenter(), gateway.TrustDomain())
	}
	if got, ok := (ID{}).Service(); ok || !got.IsZero() {
		t.Errorf("zero ID has service %v", got)
	}
}

func TestIDURLIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	id := must(GatewayID("", "dc1", "td"))
	id.URL().Host = "other"
	if id.URL().Host != "td" {
		t.Error("a changed URL changed the ID")
	}
}

// An Enterprise cluster may spell the default partition out.
func TestIDInTheDefaultPartitionIsTheSameSpelledOut(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/ns/default/dc/dc1/svc/web", "/gateway/mesh/dc/dc1"} {
		short := must(ParseID(must(url.Parse("spiffe://td" + path))))
		long := must(ParseID(must(url.Parse("spiffe://td/ap/default" + path))))
		if short != long || long.String() != "spiffe://td"+path {
			t.Errorf("%v and %v differ", short, long)
		}
	}
}

func TestIDRefusesEverythingElse(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"",
		"spiffe:",
		"spiffe://",
		"spiffe://td",
		"spiffe://td/",
		"spiffe:ns/default/dc/dc1/svc/web",
		"spiffe:/ns/default/dc/dc1/svc/web",
		"spiffe:///ns/default/dc/dc1/svc/web",
		"//td/ns/default/dc/dc1/svc/web",
		"https://td/ns/default/dc/dc1/svc/web",
		// Authority, query, fragment.
		"spiffe://td:443/ns/default/dc/dc1/svc/web",
		"spiffe://td:/ns/default/dc/dc1/svc/web",
		"spiffe://user@td/ns/default/dc/dc1/svc/web",
		"spiffe://user:pw@td/ns/default/dc/dc1/svc/web",
		"spiffe://@td/ns/default/dc/dc1/svc/web",
		"spiffe://[::1]/ns/default/dc/dc1/svc/web",
		"spiffe://t%C3%A9/ns/default/dc/dc1/svc/web",
		"spiffe://td./ns/default/dc/dc1/svc/web",
		"spiffe://a..b/ns/default/dc/dc1/svc/web",
		"spiffe://td/ns/default/dc/dc1/svc/web?",
		"spiffe://td/ns/default/dc/dc1/svc/web?a=b",
		"spiffe://td/ns/default/dc/dc1/svc/web#a",
		// Percent-encoding, which url.Parse shows in RawPath or not.
		"spiffe://td/ns/default/dc/dc1/svc/w%65b",
		"spiffe://td/ns/default/dc/dc1/svc%2Fweb",
		"spiffe://td/ns/default/dc/dc1/svc/web%2F",
		"spiffe://td/ns/default/dc/dc1/svc/w%20b",
		"spiffe://td/ns/default/dc/dc1/svc/w%00b",
		"spiffe://td/%6Es/default/dc/dc1/svc/web",
		"spiffe://td/ns/default/dc/dc1/svc/w%C3%A9b",
		"spiffe://td/ns/default/dc/dc1/svc/wéb",
		"spiffe://td/ns/default/dc/dc1/svc/\u212A", // would fold to k
		// Segments.
		"spiffe://td/ns//dc/dc1/svc/web",
		"spiffe://td/ns/default/dc//svc/web",
		"spiffe://td/ns/default/dc/dc1/svc/",
		"spiffe://td//ns/default/dc/dc1/svc/web",
		"spiffe://td/ns/default/dc/dc1/svc/web/",
		"spiffe://td/ns/default/dc/dc1/svc/web/x",
		"spiffe://td/ns/default/dc/dc1/svc",
		"spiffe://td/x/ns/default/dc/dc1/svc/web",
		"spiffe://td/ns/default/dc/dc1/svc/..",
		"spiffe://td/ns/default/dc/dc1/svc/a.b",
		"spiffe://td/NS/default/dc/dc1/svc/web",
		"spiffe://td/dc/dc1/ns/default/svc/web",
		"spiffe://td/ap//ns/default/dc/dc1/svc/web",
		"spiffe://td/ap",
		"spiffe://td/ap/ap1",
		"spiffe://td/ap/ap1/ap/ap2/ns/default/dc/dc1/svc/web",
		"spiffe://td/ap/ap1/x/ns/default/dc/dc1/svc/web",
		"spiffe://td/gateway/mesh/dc/",
		"spiffe://td/gateway/mesh/dc/dc1/",
		"spiffe://td/gateway/mesh/dc/dc1/x",
		"spiffe://td/gateway/mesh",
		"spiffe://td/gateway/terminating/dc/dc1",
		"spiffe://td/ap//gateway/mesh/dc/dc1",
		"spiffe://td/ap/a%20b/gateway/mesh/dc/dc1",
		"spiffe://td/ns/default/gateway/mesh/dc/dc1",
		// Other kinds of Consul's.
		"spiffe://td/agent/client/dc/dc1/id/node",
		"spiffe://td/agent/server/dc/dc1",
		"spiffe://td/ap/default/agent/client/dc/dc1/id/node",
	} {
		got, err := ParseID(must(url.Parse(in)))
		checkRefused(t, got, err, ErrID)
	}
	got, err := ParseID(nil)
	checkRefused(t, got, err, ErrID)
}

// A URL that was built by hand can say what no text does.
func TestIDRefusesEachForeignFieldOfAURL(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*url.URL){
		"Scheme":         func(u *url.URL) { u.Scheme = "SPIFFE" },
		"Opaque":         func(u *url.URL) { u.Opaque = "x" },
		"User":           func(u *url.URL) { u.User = url.User("") },
		"Host":           func(u *url.URL) { u.Host = "td:1" },
		"OmitHost":       func(u *url.URL) { u.OmitHost = true },
		"RelativePath":   func(u *url.URL) { u.Path = u.Path[1:] },
		"RawPath":        func(u *url.URL) { u.RawPath = u.Path },
		"RawQuery":       func(u *url.URL) { u.RawQuery = "a" },
		"ForceQuery":     func(u *url.URL) { u.ForceQuery = true },
		"Fragment":       func(u *url.URL) { u.Fragment = "a" },
		"RawFragment":    func(u *url.URL) { u.RawFragment = "a" },
		"EncodedSlash":   func(u *url.URL) { u.Path += "%2F" },
		"TrailingNUL":    func(u *url.URL) { u.Path += "\x00" },
		"TrailingNL":     func(u *url.URL) { u.Path += "\n" },
		"TrustDomainNUL": func(u *url.URL) { u.Host += "\x00" },
	} {
		uri := must(ServiceID(must(ParseService("web")), "dc1", "td")).URL()
		change(uri)
		got, err := ParseID(uri)
		if err == nil {
			t.Errorf("%s: accepted as %v", name, got)
			continue
		}
		checkRefused(t, got, err, ErrID)
	}
}

func TestIDErrorHidesAPassword(t *testing.T) {
	t.Parallel()
	_, err := ParseID(must(url.Parse("spiffe://user:hunter2@td/ns/default/dc/dc1/svc/web")))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v", err)
	}
}

func TestIDConstructorsRefuseIllegalParts(t *testing.T) {
	t.Parallel()
	web := must(ParseService("web"))
	for _, c := range []struct {
		service                            Service
		partition, datacenter, trustDomain string
	}{
		{Service{}, "a b", "dc1", "td"},
		{web, "", "", "td"},
		{web, "", "a/b", "td"},
		{web, "", "dc1", ""},
		{web, "", "dc1", "td:443"},
		{web, "", "dc1", "t/d"},
		{web, "", "dc1", strings.Repeat("a.", 127)},
		{web, "", "dc1", strings.Repeat("a.", 127) + "a"},
		{web, "", strings.Repeat("a", 256), "td"},
	} {
		got, err := ServiceID(c.service, c.datacenter, c.trustDomain)
		checkRefused(t, got, err, ErrID)
		got, err = GatewayID(c.partition, c.datacenter, c.trustDomain)
		checkRefused(t, got, err, ErrID)
	}
}

// R1: an identity differs by any byte but the case of a letter in the path.
func TestIDMatchesTheSameIdentityOnly(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"spiffe://td.consul/ns/default/dc/dc1/svc/web_k-s",
		"spiffe://td.consul/ap/ap1/ns/pay/dc/dc1/svc/web",
		"spiffe://td.consul/ap/ap1/gateway/mesh/dc/dc1",
	} {
		want := must(ParseID(must(url.Parse(text))))
		if !want.Matches(want) {
			t.Errorf("%v does not match itself", want)
		}
		pathAt := len("spiffe://td.consul")
		folded := 0
		for i := range len(text) {
			for b := range 256 {
				changed := text[:i] + string([]byte{byte(b)}) + text[i+1:]
				uri, err := url.Parse(changed)
				if err != nil {
					continue
				}
				got, err := ParseID(uri)
				if err != nil {
					continue
				}
				same := text[i] == byte(b) || i > pathAt && isLetter(text[i]) && text[i]^0x20 == byte(b) || i < pathAt && strings.ToLower(changed[:6]) == "spiffe" && changed[6:] == text[6:]
				if got.Matches(want) != same || want.Matches(got) != same {
					t.Errorf("%v matches %v: %v, want %v", got, want, got.Matches(want), same)
				}
				if same && got != want {
					folded++
				}
			}
		}
		if folded == 0 {
			t.Errorf("no folding was seen for %q", text)
		}
	}
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

func TestIDOfAServiceAndAGatewayNeverMatch(t *testing.T) {
	t.Parallel()
	web := must(ServiceID(must(ParseService("web")), "dc1", "td"))
	others := []ID{
		{},
		must(GatewayID("", "dc1", "td")),
		must(GatewayID("web", "dc1", "td")),
		must(ServiceID(must(ParseService("web.default.ap1")), "dc1", "td")),
		must(ServiceID(must(ParseService("web.pay")), "dc1", "td")),
		must(ServiceID(must(ParseService("web2")), "dc1", "td")),
		must(ServiceID(must(ParseService("web")), "dc2", "td")),
		must(ServiceID(must(ParseService("web")), "dc1", "td2")),
		must(ServiceID(must(ParseService("web")), "dc1", "TD")),
	}
	for _, other := range others {
		if web.Matches(other) || other.Matches(web) {
			t.Errorf("%v matches %v", web, other)
		}
	}
	// Fails closed: an ID that was never set allows nobody.
	if (ID{}).Matches(ID{}) {
		t.Error("the zero ID matches itself")
	}
	if id := (ID{}); id.String() != "" || id.URL() != nil {
		t.Errorf("zero ID prints %q, URL %v", id, id.URL())
	}
}

func TestIDIsReadFromACertificate(t *testing.T) {
	t.Parallel()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for _, id := range []ID{
		must(ServiceID(must(ParseService("UPPER_under-score.Ns.Ap")), "DC_1", testTrustDomain)),
		must(GatewayID("ap1", "dc1", testTrustDomain)),
	} {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1),
			NotAfter:     time.Now().Add(time.Hour),
			URIs:         []*url.URL{id.URL()},
		}
		der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
		leaf := must(x509.ParseCertificate(der))
		if got := must(ParseID(leaf.URIs[0])); got != id || !got.Matches(id) {
			t.Errorf("certificate of %v is read as %v", id, got)
		}
	}
}

// checkID demands that id is a legal SPIFFE ID that is read back as an equal value.
func checkID(t testing.TB, id ID) {
	t.Helper()
	if len(id.String()) > 2048 {
		t.Errorf("ID has %d bytes: %v", len(id.String()), id)
	}
	if id.URL().String() != id.String() {
		t.Errorf("%v has URL %v", id, id.URL())
	}
	if again, err := ParseID(id.URL()); err != nil || again != id {
		t.Errorf("%v is read back as %v, %v", id, again, err)
	}
	parsed, err := url.Parse(id.String())
	if err != nil {
		t.Fatalf("%v: %v", id, err)
	}
	if again, err := ParseID(parsed); err != nil || again != id {
		t.Errorf("%v is read back as %v, %v", id, again, err)
	}
	if !id.Matches(id) {
		t.Errorf("%v does not match itself", id)
	}
}

// What is accepted is legal and read back, is what the constructors make of its
// parts, and prints as it was read but for the default partition.
func FuzzParseID(f *testing.F) {
	for _, s := range []string{
		"spiffe://td/ns/default/dc/dc1/svc/web", "spiffe://td/ap/ap1/ns/pay/dc/dc1/svc/web", "spiffe://td/gateway/mesh/dc/dc1",
		"spiffe://td/ap/default/gateway/mesh/dc/dc1", "spiffe://u:p@td:1/ns/a/dc/b/svc/c?q#f", "spiffe://td/ns/a/dc/b/svc/%41", "SPIFFE://td/gateway/mesh/dc/a#",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		uri, err := url.Parse(in)
		if err != nil {
			return
		}
		id, err := ParseID(uri)
		if err != nil {
			checkRefused(t, id, err, ErrID)
			return
		}
		checkID(t, id)
		if got := strings.Replace(uri.String(), "/ap/default/", "/", 1); got != id.String() {
			t.Errorf("%q prints %q", in, id)
		}
		s, ok := id.Service()
		if !ok {
			partition := ""
			if rest, found := strings.CutPrefix(id.URL().Path, "/ap/"); found {
				partition, _, _ = strings.Cut(rest, "/")
			}
			if built, err := GatewayID(partition, id.Datacenter(), id.TrustDomain()); err != nil || built != id {
				t.Errorf("%q is built again as %v, %v", in, built, err)
			}
			return
		}
		if built, err := ServiceID(s, id.Datacenter(), id.TrustDomain()); err != nil || built != id {
			t.Errorf("%q is built again as %v, %v", in, built, err)
		}
	})
}
