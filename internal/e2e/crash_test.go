// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// Consul dies in the middle of a run and of the traffic. No call needs Consul but those that a sidecar asks it about: an open
// connection goes on, and so do new ones to a destination that decides by itself, as Envoy does. The run fails and has left nothing
// half-done that the next one does not complete (the order of calls in registrator/apply.go).
func TestConsulMayDieInTheMiddleOfARun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, consulproc.Config{})
	w.aws.AddFunction("checkout", enabled())
	w.allow(t, "records", "checkout")
	w.destination(t, "records", echo(t, nil))
	w.gateway.Route(w.sni(t, "ledger", "dc1"), echo(t, sidecar(leaf(t, w.admin, "ledger"), trusted(t, w.admin))))
	r := w.registrator(t, nil)
	r.run(t)
	f := w.function(t, "checkout", "records:7001,ledger:7002", nil)
	open, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", f.addr(7001))
	ok(t, err)
	t.Cleanup(func() { open.Close() })
	ok(t, exchange(open, "before"))

	// Enough to do for some seconds, were it not for the end of Consul in the middle.
	const more = 60
	for i := range more {
		w.aws.AddFunction(fmt.Sprintf("fn-%02d", i), enabled())
	}
	w.store.SetLatency("PutParameter", 300*time.Millisecond)
	began := w.store.Count("PutParameter")
	failure := make(chan error, 1)
	go func() {
		_, err := r.try(t)
		failure <- err
	}()
	waittest.NoError(t, func(context.Context) error {
		// Sixteen at a time: some of the first are whole by then, the others are between two calls.
		if w.store.Count("PutParameter") < began+20 {
			return errors.New("the run does not get there")
		}
		return nil
	})
	ok(t, w.consul.Kill())
	if err := <-failure; err == nil {
		t.Error("a run whose Consul died succeeded")
	} else {
		t.Logf("the run says %.200s…", err)
	}
	ok(t, exchange(open, "while there is no Consul"))
	for range 20 {
		ok(t, f.say(t.Context(), 7002, "a new connection while there is no Consul"))
	}
	w.store.SetLatency("PutParameter", 0)
	// Nothing can be read, so nothing is done (G2).
	if _, err := r.try(t); err == nil {
		t.Error("a run without Consul succeeded")
	}
	ok(t, exchange(open, "still"))

	ok(t, w.consul.Restart(t.Context()))
	ok(t, exchange(open, "after"))
	waittest.NoError(t, func(ctx context.Context) error { return f.say(ctx, 7001, "a new connection") })
	result := r.run(t)
	if result.Enabled != more+1 || changes(result) == 0 || changes(result) == more {
		t.Errorf("the next run did %+v", result)
	}
	t.Logf("the next run created %d, updated %d and renewed %d", result.Created, result.Updated, result.Renewed)
	services, _, err := w.admin.Catalog().NodeServiceList(node, nil)
	ok(t, err)
	if len(services.Services) != more+1 || len(w.store.Names()) != more+2 { // with the token
		t.Errorf("there are %d services and %d parameters", len(services.Services), len(w.store.Names()))
	}
	if again := r.run(t); changes(again) != 0 {
		t.Errorf("the run after that did %+v", again)
	}
}
