// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// From tags to bytes: the registrator makes two functions members of the mesh, with the smallest policy, and Consul's intentions tell
// them apart by the identities in the leaves that it stored (R1, G8).
func TestAFunctionCallsWhatIntentionsAllowItsIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, consulproc.Config{})
	w.aws.AddFunction("checkout", enabled())
	w.aws.AddFunction("mailer", enabled())
	w.allow(t, "web", "checkout")
	w.allow(t, "records", "checkout")
	w.allow(t, "outbox", "mailer")
	w.destination(t, "web", web(t, "web"))
	w.destination(t, "outbox", web(t, "outbox"))
	w.destination(t, "records", echo(t, nil))
	if r := w.registrator(t, nil).run(t); r.Created != 2 || r.Enabled != 2 {
		t.Fatalf("the run did %+v", r)
	}

	const upstreams = "web:8080,outbox:8081,records:7001"
	checkout, mailer := w.function(t, "checkout", upstreams, nil), w.function(t, "mailer", upstreams, nil)
	for _, want := range []struct {
		who  aFunction
		name string
		may  map[int]string
	}{
		{checkout, "checkout", map[int]string{8080: "web"}},
		{mailer, "mailer", map[int]string{8081: "outbox"}},
	} {
		for _, port := range []int{8080, 8081} {
			got := want.who.get(t, port)
			if body := want.may[port]; got.Body != body || (got.Error == "") != (body != "") {
				t.Errorf("%s at port %d: %+v, want %q", want.name, port, got, body)
			}
		}
	}
	// Any protocol: the bytes of a line, over TCP.
	waittest.NoError(t, func(ctx context.Context) error { return checkout.say(ctx, 7001, strings.Repeat("a line ", 1000)) })
	if err := mailer.say(t.Context(), 7001, "let me in"); err == nil {
		t.Error("mailer got through to a service that only checkout may call")
	} else if errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a denied function was left waiting: %v", err) // R9
	}
}
