// SPDX-License-Identifier: MPL-2.0

package lab

import (
	"context"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
)

// The rule of deploy/terraform: seven operations, with or without a date.
func TestTheRuleOfEventBridgePicksWhatTheRegistratorKnows(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"CreateFunction20150331": true, "CreateFunction": true, "DeleteFunction20150331": true,
		"TagResource20170331v2": true, "UntagResource20170331v2": true, "TagResource": true,
		"CreateAlias20150331": true, "UpdateAlias20150331": true, "DeleteAlias20150331": true,
		"CreateFunctionUrlConfig": false, "UpdateFunctionCode20150331v2": false, "PublishVersion20150331": false,
		"UpdateFunction20150331": false, "ListTags20170331": false, "": false,
	} {
		if got := watched.MatchString(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// A registrator that dies is tried three times, one after the other, and events that the rule does not pick not at all.
func TestAnEventIsTriedThreeTimes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("functions run on Linux only")
	}
	broken, err := exec.LookPath("true")
	if err != nil {
		t.Skip(err)
	}
	w, err := New(t.Context(), Config{Programs: Programs{Registrator: broken}, Unregistered: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	c, err := w.StartControl(ControlConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.AWS.AddFunction("orders", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.AWS.WaitEvents(ctx); err != nil {
		t.Fatal(err)
	}
	all := c.Invocations()
	if len(all) != 3 {
		t.Fatalf("it was invoked %d times", len(all))
	}
	for n, i := range all {
		if !i.Failed() || i.Try != n+1 || string(i.Event) != string(all[0].Event) {
			t.Errorf("invocation %d is try %d, %v", n, i.Try, i.Err)
		}
	}
	for _, call := range []controlsim.APICall{{Name: "PublishVersion20150331"}, {Name: "CreateFunction20150331", ErrorCode: "AccessDenied"}} {
		c.onEvent(c.place.APIEvent(call))
	}
	if n := len(c.Invocations()); n != 3 {
		t.Errorf("it was invoked %d times more", n-3)
	}
	c.Close() // again, by Cleanup
	if _, err := c.Invoke(ctx, nil); err == nil {
		t.Error("it was invoked after its end")
	}
}
