// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/consul-lambda/consul-lambda/registrator"
)

// G2: a listing in which one entry cannot be read is an error, not a listing without it.
func TestAListingWithAnEntryThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	addr := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/datacenters") {
			_, _ = w.Write([]byte(`["dc1"]`))
			return
		}
		_, _ = w.Write([]byte(`[{"Kind":"service-defaults","Name":"web"},{"Kind":"service-defaults","Name":7}]`))
	})
	list, err := open(t, addr, Config{}).Defaults(t.Context(), registrator.Realm{})
	checkError(t, err, nil, "listing service-defaults")
	if len(list) != 0 {
		t.Errorf("%d entries beside the error", len(list))
	}
}

// G8: an answer that lacks any part of a leaf is an error.
func TestALeafThatLacksAPartIsAnError(t *testing.T) {
	t.Parallel()
	const whole = `{"CertPEM":"c","PrivateKeyPEM":"k","ValidAfter":"2026-01-02T03:04:05Z","ValidBefore":"2026-01-05T03:04:05Z"}`
	for _, field := range []string{"", "CertPEM", "PrivateKeyPEM", "ValidAfter", "ValidBefore"} {
		body := whole
		if field != "" {
			body = strings.Replace(whole, field, "X", 1)
		}
		addr := answering(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
		if _, err := open(t, addr, Config{}).Leaf(t.Context(), service(t, "fn")); (err != nil) != (field != "") {
			t.Errorf("without %q: %v", field, err)
		}
	}
}

// A mistake in the variable names it, with its value and what is accepted.
func TestAnAddressThatIsNoneIsNamed(t *testing.T) {
	t.Setenv("CONSUL_HTTP_ADDR", "ftp://consul.example")
	_, err := New(Config{})
	if err == nil || !strings.Contains(err.Error(), `CONSUL_HTTP_ADDR: "ftp://consul.example"`) || !strings.Contains(err.Error(), "accepted: ") {
		t.Errorf("the error is %v", err)
	}
}
