// SPDX-License-Identifier: MPL-2.0

package mesh

import (
	"strings"
	"testing"
)

func TestServiceReadsEachFormAndPrintsTheShortest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, name, namespace, partition, canonical string }{
		{"web", "web", "default", "default", "web"},
		{"web.default", "web", "default", "default", "web"},
		{"web.default.default", "web", "default", "default", "web"},
		{"web.pay", "web", "pay", "default", "web.pay"},
		{"web.pay.default", "web", "pay", "default", "web.pay"},
		{"web.default.ap1", "web", "default", "ap1", "web.default.ap1"},
		{"web.pay.ap1", "web", "pay", "ap1", "web.pay.ap1"},
		{"Web_1-x.Default", "Web_1-x", "Default", "default", "Web_1-x.Default"},
		{"default", "default", "default", "default", "default"},
		{"web.svc", "web", "svc", "default", "web.svc"}, // only an upstream has labels
	} {
		s := must(ParseService(c.in))
		if s.Name() != c.name || s.Namespace() != c.namespace || s.Partition() != c.partition || s.IsZero() {
			t.Errorf("ParseService(%q) = %q %q %q, zero %v", c.in, s.Name(), s.Namespace(), s.Partition(), s.IsZero())
		}
		if s.String() != c.canonical {
			t.Errorf("ParseService(%q) prints %q, want %q", c.in, s, c.canonical)
		}
		if again := must(ParseService(s.String())); again != s {
			t.Errorf("ParseService(%q) = %v, want %v", s, again, s)
		}
		if built := must(NewService(c.name, c.namespace, c.partition)); built != s {
			t.Errorf("NewService(%q, %q, %q) = %v, want %v", c.name, c.namespace, c.partition, built, s)
		}
	}
	if must(NewService("web", "", "")) != must(NewService("web", "default", "default")) {
		t.Error(`"" and "default" make different services`)
	}
}

func TestServiceZeroValueNamesNothing(t *testing.T) {
	t.Parallel()
	var s Service
	if !s.IsZero() || s.String() != "" || s.Name() != "" || s.Namespace() != "default" || s.Partition() != "default" {
		t.Errorf("zero Service: %q %q %q %q", s, s.Name(), s.Namespace(), s.Partition())
	}
	path, err := s.ParameterPath("/p")
	checkRefused(t, path, err, ErrParameterPath, "service")
}

func TestServiceRefusesWhatIsNoName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, text string }{
		{"", `name ""`},
		{".pay", `name ""`},
		{"web.", `namespace ""`},
		{"web..ap1", `namespace ""`},
		{"web.pay.", `partition ""`},
		{"web.pay.ap1.x", "4 parts"},
		{" web", `name " web"`},
		{"web\n", `name "web\n"`},
		{"wéb", `name "wéb"`},
		{"\u212Aelvin", "name"}, // folds to k under Unicode rules
		{"web.p y", `namespace "p y"`},
		{"web.pay.a/p", `partition "a/p"`},
		{strings.Repeat("a", 256), "256 bytes: want at most 255"},
	} {
		got, err := ParseService(c.in)
		checkRefused(t, got, err, ErrService, c.text)
	}
	must(ParseService(strings.Repeat("a", 255)))
	got, err := NewService("a.b", "", "")
	checkRefused(t, got, err, ErrService, `name "a.b"`)
}

// A function's name has up to 64 bytes, and "-" and an alias of up to 128 may follow.
func TestServiceTakesTheLongestNameOfAFunctionAndItsAlias(t *testing.T) {
	t.Parallel()
	s := must(NewService(strings.Repeat("f", 64)+"-"+strings.Repeat("a", 128), "", ""))
	must(ServiceID(s, "dc1", testTrustDomain))
	must(s.ParameterPath("/consul"))
	sni, err := ServiceSNI(s, "dc1", testTrustDomain)
	checkRefused(t, sni, err, ErrSNI, "193 bytes", "63")
}

func TestEveryByteOfAPartIsOfTheAlphabet(t *testing.T) {
	t.Parallel()
	web := must(NewService("web", "", ""))
	for b := range 256 {
		part := "a" + string([]byte{byte(b)}) + "z"
		want := isNameByte(byte(b))
		check := func(what string, err error) {
			t.Helper()
			if (err == nil) != want {
				t.Errorf("%s %q: error %v, want acceptance %v", what, part, err, want)
			}
		}
		_, err := NewService(part, "", "")
		check("name", err)
		_, err = NewService("web", part, "")
		check("namespace", err)
		_, err = NewService("web", "", part)
		check("partition", err)
		_, err = ServiceSNI(web, part, testTrustDomain)
		check("datacenter of an SNI", err)
		_, err = PeeredSNI(web, part, testTrustDomain)
		check("peer of an SNI", err)
		_, err = ServiceID(web, part, testTrustDomain)
		check("datacenter of a service ID", err)
		_, err = GatewayID(part, "dc1", testTrustDomain)
		check("partition of a gateway ID", err)
		_, err = GatewayID("", part, testTrustDomain)
		check("datacenter of a gateway ID", err)
		_, err = ParseUpstream("web.svc." + part + ".peer:80")
		check("peer of an upstream", err)
		_, err = ParseUpstream("web.svc." + part + ".dc:80")
		check("labelled datacenter of an upstream", err)
		_, err = ParseUpstream("web:80:" + part)
		check("datacenter of an upstream", err)

		want = want || b == '.'
		_, err = ServiceID(web, "dc1", part)
		check("trust domain of an ID", err)
		_, err = ServiceSNI(web, "dc1", part)
		check("trust domain of an SNI", err)
		want = want || b == '/'
		_, err = web.ParameterPath("/" + part)
		check("prefix of a parameter path", err)
	}
}

func TestParameterPathIsThePredecessors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ service, prefix, want string }{
		{"web", "/lambda-ext", "/lambda-ext/default/default/web"},
		{"web.pay", "/a/b.c/d_e", "/a/b.c/d_e/default/pay/web"},
		{"Web.pay.ap1", "/x", "/x/ap1/pay/Web"},
		{"web.default.ap1", "/xaws", "/xaws/ap1/default/web"},
	} {
		if got := must(must(ParseService(c.service)).ParameterPath(c.prefix)); got != c.want {
			t.Errorf("path of %q under %q is %q, want %q", c.service, c.prefix, got, c.want)
		}
	}
}

func TestParameterPathKeepsTheRulesOfParameterStore(t *testing.T) {
	t.Parallel()
	web := must(ParseService("web"))
	for _, prefix := range []string{
		"", "/", "p", "p/q", "/p/", "//p", "/p//q", "/p q", "/p:q", "/pé", "/{{x}}",
		"/aws", "/AWS/x", "/awsome", "/ssm", "/Ssm-x",
	} {
		got, err := web.ParameterPath(prefix)
		checkRefused(t, got, err, ErrParameterPath, `"`+prefix+`"`)
	}

	twelve := strings.Repeat("/p", 12)
	must(web.ParameterPath(twelve))
	got, err := web.ParameterPath(twelve + "/p")
	checkRefused(t, got, err, ErrParameterPath, "16 levels", "15")

	longest := "/" + strings.Repeat("p", 947-len("//default/default/web"))
	if path := must(web.ParameterPath(longest)); len(path) != 947 {
		t.Errorf("longest path has %d bytes", len(path))
	}
	got, err = web.ParameterPath(longest + "p")
	checkRefused(t, got, err, ErrParameterPath, "948 bytes", "947")
}

// What is accepted is read back from its canonical form, has a legal SPIFFE ID that
// gives the service back, and either a legal server name that does so too or one
// label or a whole that is too long for it.
func FuzzParseService(f *testing.F) {
	for _, s := range []string{"web", "web.pay", "web.default.ap1", "a.svc", "internal.internal-v1.external", ".", "A_-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseService(in)
		if err != nil {
			checkRefused(t, s, err, ErrService)
			return
		}
		if again, err := ParseService(s.String()); err != nil || again != s {
			t.Errorf("%q prints %q, which is read as %v, %v", in, s, again, err)
		}
		if len(s.String()) > len(in) {
			t.Errorf("%q prints %q, which is longer", in, s)
		}
		if again, err := NewService(s.Name(), s.Namespace(), s.Partition()); err != nil || again != s {
			t.Errorf("%q is built again as %v, %v", in, again, err)
		}
		checkServiceNames(t, s, "dc1", testTrustDomain)
	})
}

// checkServiceNames demands that every name made from s is legal and gives s back.
func checkServiceNames(t testing.TB, s Service, datacenter, trustDomain string) {
	t.Helper()
	id, err := ServiceID(s, datacenter, trustDomain)
	if err != nil {
		t.Fatalf("ServiceID of %v: %v", s, err)
	}
	checkID(t, id)
	if back, ok := id.Service(); !ok || back != s {
		t.Errorf("ID %v gives %v, want %v", id, back, s)
	}

	tooLong := max(len(s.Name()), len(s.Namespace()), len(s.Partition())) > 63
	for _, build := range []func(Service, string, string) (SNI, error){ServiceSNI, PeeredSNI} {
		sni, err := build(s, datacenter, trustDomain)
		if err != nil {
			total := len(s.Name()+s.Namespace()+s.Partition()+datacenter+trustDomain) + len("....internal-v1.")
			if !tooLong && total <= 253 {
				t.Errorf("no server name of %v: %v", s, err)
			}
			continue
		}
		checkHostName(t, sni.String())
		back, err := ParseSNI(sni.String())
		if err != nil || back != sni || back.Service() != s {
			t.Errorf("server name %v is read as %v of %v, %v", sni, back, back.Service(), err)
		}
	}
}
