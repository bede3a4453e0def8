// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// G6: fields that our client does not know survive being read and written.
func TestFieldsThatNobodyKnowsSurvive(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	object := `{"Kind":"service-defaults","Name":"fn","Protocol":"http","FromTheFuture":{"Deep":[1,2.50]},"Meta":{"a":"b"}}`
	if err := srv.PutEntry(object); err != nil {
		t.Fatal(err)
	}
	c := open(t, srv.Addr(), Config{})
	list := must[[]registrator.Defaults](t)(c.Defaults(t.Context(), registrator.Realm{}))
	if len(list) != 1 || list[0].Service.Name() != "fn" || list[0].Index == 0 {
		t.Fatalf("%+v", list)
	}
	d := list[0]
	for _, ours := range []string{"CreateIndex", "ModifyIndex", "Hash"} {
		if bytes.Contains(d.Raw, []byte(ours)) {
			t.Errorf("%s is in %s", ours, d.Raw)
		}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(d.Raw, &fields); err != nil {
		t.Fatal(err)
	}
	fields["Protocol"] = []byte(`"grpc"`)
	d.Raw = must[[]byte](t)(json.Marshal(fields))
	if err := c.PutDefaults(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := srv.Entry("fn"); !strings.Contains(got, `"FromTheFuture":{"Deep":[1,2.50]}`) || !strings.Contains(got, `"grpc"`) {
		t.Error(got)
	}
}

// G6: service-defaults are written and deleted with CAS only.
func TestDefaultsThatChangedMeanwhileStay(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	c := open(t, srv.Addr(), Config{})
	key := registrator.Key{Service: service(t, "fn")}
	first := registrator.Defaults{Key: key, Raw: []byte(`{"Protocol":"http"}`)}
	if err := c.PutDefaults(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	d := must[[]registrator.Defaults](t)(c.Defaults(t.Context(), registrator.Realm{}))[0]
	second := first
	second.Raw = []byte(`{"Protocol":"tcp"}`)
	stale := d
	stale.Index--
	stale.Raw = second.Raw
	for _, err := range []error{
		c.PutDefaults(t.Context(), second), c.PutDefaults(t.Context(), stale), c.DeleteDefaults(t.Context(), stale),
	} {
		checkError(t, err, registrator.ErrConflict)
	}
	for range 2 { // the second time it is gone
		if err := c.DeleteDefaults(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
	if got := srv.Entry("fn"); got != "" {
		t.Error(got)
	}
}

func TestNoDefaultsAreAnEmptyList(t *testing.T) {
	t.Parallel()
	c := open(t, start(t, consulsim.Config{}).Addr(), Config{})
	if list, err := c.Defaults(t.Context(), registrator.Realm{}); len(list) != 0 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}

func TestRawThatIsNoObjectIsNotSent(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	for _, raw := range []string{"", "null", "[]", "{"} {
		d := registrator.Defaults{Key: registrator.Key{Service: service(t, "fn")}, Raw: []byte(raw)}
		if open(t, srv.Addr(), Config{}).PutDefaults(t.Context(), d) == nil {
			t.Errorf("%q was sent", raw)
		}
	}
	if n := srv.Count(consulsim.OpConfigSet); n != 0 {
		t.Errorf("%d writes", n)
	}
}

func TestOneDatacenterIsListedWithoutAskingTheAgent(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{})
	c := open(t, srv.Addr(), Config{})
	for range 2 {
		if list := must[[]string](t)(c.Datacenters(t.Context())); !slices.Equal(list, []string{"dc1"}) {
			t.Error(list)
		}
		_ = must[[]registrator.Defaults](t)(c.Defaults(t.Context(), registrator.Realm{}))
	}
	if srv.Count(consulsim.OpSelf) != 0 || srv.Count(consulsim.OpDatacenters) != 2 {
		t.Errorf("%v", srv.Calls())
	}
}

// Config entries live in the primary datacenter: an index of another one would lose every compare-and-set.
func TestDefaultsOfASecondDatacenterCanBeChanged(t *testing.T) {
	t.Parallel()
	srv := start(t, consulsim.Config{Datacenters: []string{"west", "east"}})
	c := open(t, srv.Addr(), Config{})
	if list := must[[]string](t)(c.Datacenters(t.Context())); list[0] != "west" || len(list) != 2 {
		t.Error(list)
	}
	for range 3 { // so that the indexes of the two come apart
		if err := srv.PutService(consulsim.Service{Node: "vm", ID: "x", Name: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	east := registrator.Realm{Datacenter: "east"}
	d := registrator.Defaults{Key: registrator.Key{Datacenter: "east", Service: service(t, "fn")}, Raw: []byte(`{"Protocol":"http"}`)}
	if err := c.PutDefaults(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	list := must[[]registrator.Defaults](t)(c.Defaults(t.Context(), east))
	if len(list) != 1 || list[0].Datacenter != "east" {
		t.Fatalf("%+v", list)
	}
	list[0].Raw = []byte(`{"Protocol":"tcp"}`)
	if err := c.PutDefaults(t.Context(), list[0]); err != nil {
		t.Error(err)
	}
}

func TestAnAgentThatMayNotBeReadIsSaid(t *testing.T) {
	t.Parallel()
	cfg := tokens()
	cfg.Datacenters = []string{"west", "east"}
	var log bytes.Buffer
	c := open(t, start(t, cfg).Addr(), Config{Token: "services", Log: slog.New(slog.NewTextHandler(&log, nil))})
	if list := must[[]string](t)(c.Datacenters(t.Context())); len(list) != 2 || !strings.Contains(log.String(), "agent_prefix") {
		t.Errorf("%v, log %s", list, &log)
	}
}

// G6: an entry on which a router builds is told apart from all else that Consul refuses.
func TestARefusalForARouterIsToldApart(t *testing.T) {
	t.Parallel()
	refused := api.StatusError{Code: 500, Body: `discovery chain "fn" uses a protocol "tcp" that does not permit advanced routing or splitting behavior`}
	checkError(t, operation{}.answered(refused), registrator.ErrInUse, "advanced routing")
	if err := (operation{}).answered(api.StatusError{Code: 500, Body: "rpc error"}); errors.Is(err, registrator.ErrInUse) {
		t.Error(err)
	}
}
