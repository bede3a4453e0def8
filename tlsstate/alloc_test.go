// SPDX-License-Identifier: MPL-2.0

//go:build !race

package tlsstate_test

import (
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// R3, and the budget: the look-up that every dial begins with allocates nothing, be a refresh due or not. It cannot run in
// parallel with other tests, whose allocations would be counted.
func TestLookUpAllocatesNothing(t *testing.T) {
	state, err := tlsstate.New(tlsstate.Config{Upstreams: upstreams(t, "web:8080"), Gateways: []string{"127.0.0.1:1"}, Source: new(store)})
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Update(certtest.Encode(t, certtest.Document(t, "fn"))); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		if state.Usable() == nil {
			t.Fatal("no snapshot")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
