// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// caller speaks to the APIs of a domain without processes.
type caller struct {
	t       testing.TB
	d       *domain
	address string
	id      string // of the extension that registered last
}

func newCaller(t testing.TB, extensions ...string) *caller {
	t.Helper()
	d := newDomain(extensions, false)
	fn, err := Function{Name: "orders", Bootstrap: "/bootstrap"}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newAPI(fn, Options{}.resolve(), func() *domain { return d })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return &caller{t: t, d: d, address: s.address()}
}

// call returns the status and, of an error, its type.
func (c *caller) call(method, path, body string, header ...string) string {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.address+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := tr.RoundTrip(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if id := res.Header.Get("Lambda-Extension-Identifier"); id != "" {
		c.id = id
	}
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var e struct{ ErrorType string }
	_ = json.Unmarshal(raw, &e)
	return strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", e.ErrorType))
}

func (c *caller) register(name, body string) string {
	c.t.Helper()
	return c.call("POST", "/2020-01-01/extension/register", body, "Lambda-Extension-Name", name)
}

func (c *caller) next() string {
	c.t.Helper()
	return c.call("GET", "/2020-01-01/extension/event/next", "", "Lambda-Extension-Identifier", c.id)
}

func (c *caller) fail(which, errorType string) string {
	c.t.Helper()
	return c.call("POST", "/2020-01-01/extension/"+which+"/error", "{}",
		"Lambda-Extension-Identifier", c.id, "Lambda-Extension-Function-Error-Type", errorType)
}

// post gives every extension an event, so that the following Next returns.
func (c *caller) post(e event) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	for _, a := range c.d.agents {
		a.post(e)
	}
}

func equal(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// The types are those of the emulator's rapi/handler and core packages.
func TestIllegalExtensionCallsAreRefusedWithLambdasErrorTypes(t *testing.T) {
	t.Parallel()
	const badState = "403 Extension.InvalidExtensionState"
	tests := []struct {
		name string
		do   func(c *caller) string
		want string
	}{
		{"an empty name", func(c *caller) string { return c.register("", `{}`) }, "403 Extension.InvalidExtensionName"},
		{"a body that is not JSON", func(c *caller) string { return c.register("ext", `events`) }, "403 InvalidRequestFormat"},
		{"no body", func(c *caller) string { return c.register("ext", ``) }, "403 InvalidRequestFormat"},
		{"configuration keys", func(c *caller) string { return c.register("ext", `{"configurationKeys":["a"]}`) }, "403 InvalidRequestFormat"},
		{"an unknown event", func(c *caller) string { return c.register("ext", `{"events":["FREEZE"]}`) }, "403 Extension.InvalidEventType"},
		{"a second register", func(c *caller) string {
			c.register("ext", `{}`)
			return c.register("ext", `{}`)
		}, badState},
		{"SHUTDOWN for an internal extension", func(c *caller) string { return c.register("stranger", `{"events":["SHUTDOWN"]}`) }, "403 Extension.InvalidEventType"},
		{"two internal extensions of one name", func(c *caller) string {
			c.register("stranger", `{}`)
			return c.register("stranger", `{}`)
		}, badState},
		{"an internal extension once Init is over", func(c *caller) string {
			c.d.finishInit()
			return c.register("stranger", `{}`)
		}, "403 Extension.RegistrationClosed"},
		{"an eleventh extension", func(c *caller) string {
			for i := range 9 {
				equal(c.t, "register", c.register(fmt.Sprint("internal", i), `{}`), "200")
			}
			return c.register("eleventh", `{}`)
		}, "403 Extension.TooManyExtensions"},
		{"Next without an identifier", func(c *caller) string { return c.next() }, "403 Extension.MissingExtensionIdentifier"},
		{"Next with something else", func(c *caller) string { c.id = "ext"; return c.next() }, "403 Extension.InvalidExtensionIdentifier"},
		{"Next with a made-up identifier", func(c *caller) string { c.id = newUUID(); return c.next() }, "403 Extension.UnknownExtensionIdentifier"},
		{"Next before register", func(c *caller) string { c.id = c.d.agents[0].id; return c.next() }, "403 Extension.UnknownExtensionIdentifier"},
		{"Next after init/error", func(c *caller) string {
			c.register("ext", `{}`)
			equal(c.t, "init/error", c.fail("init", "Extension.ConfigInvalid"), "202")
			return c.next()
		}, badState},
		{"Next after exit/error", func(c *caller) string {
			c.register("ext", `{}`)
			equal(c.t, "exit/error", c.fail("exit", "Extension.Gone"), "202")
			return c.next()
		}, badState},
		{"init/error without a type", func(c *caller) string {
			c.register("ext", `{}`)
			return c.fail("init", "")
		}, "403 Extension.MissingHeader"},
		{"init/error after Next", func(c *caller) string {
			c.register("ext", `{"events":["INVOKE"]}`)
			c.post(event{EventType: eventInvoke})
			equal(c.t, "next", c.next(), "200")
			return c.fail("init", "Extension.TooLate")
		}, badState},
		{"exit/error after init/error", func(c *caller) string {
			c.register("ext", `{}`)
			c.fail("init", "Extension.ConfigInvalid")
			return c.fail("exit", "Extension.ConfigInvalid")
		}, badState},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCaller(t, "ext")
			c.t = t
			equal(t, test.name, test.do(c), test.want)
		})
	}
}

func TestOnlyTheFirstErrorReportOfAnExtensionCounts(t *testing.T) {
	t.Parallel()
	c := newCaller(t, "ext")
	c.register("ext", `{}`)
	equal(t, "first", c.fail("init", "Extension.First"), "202")
	equal(t, "second", c.fail("init", "Extension.Second"), "202")
	if got := c.d.first.Reported.Type; got != "Extension.First" {
		t.Errorf("kept %q", got)
	}
	if c.d.fault() != nil {
		t.Error("a report alone ended the domain; the process has to exit first")
	}
}

func TestARunningExtensionMayReportAnExitError(t *testing.T) {
	t.Parallel()
	c := newCaller(t, "ext")
	c.register("ext", `{"events":["INVOKE","SHUTDOWN"]}`)
	c.post(event{EventType: eventInvoke})
	equal(t, "next", c.next(), "200")
	equal(t, "exit/error", c.fail("exit", "Extension.Broken"), "202")
}

func TestALaterEventReplacesOneNotYetTaken(t *testing.T) {
	t.Parallel()
	c := newCaller(t, "ext")
	c.register("ext", `{"events":["INVOKE","SHUTDOWN"]}`)
	c.post(event{EventType: eventInvoke})
	c.post(event{EventType: eventShutdown})
	e, refused := c.d.next(t.Context(), c.id)
	if refused != nil || e.EventType != eventShutdown {
		t.Fatalf("got %v, %v", e, refused)
	}
}

func TestTheRuntimeAPIRefusesWhatIsNotItsTurn(t *testing.T) {
	t.Parallel()
	const api = "/2018-06-01/runtime"
	c := newCaller(t)
	answer := func(id, which string) string {
		return c.call("POST", api+"/invocation/"+id+"/"+which, `"x"`)
	}
	equal(t, "response without an invocation", answer("none", "response"), "400 InvalidRequestID")

	i := &invocation{id: newUUID(), payload: []byte("{}"), posted: time.Now(), deadline: time.Now()}
	c.d.invoke(i, event{EventType: eventInvoke})
	equal(t, "next", c.call("GET", api+"/invocation/next", ""), "200")
	equal(t, "next, asked again", c.call("GET", api+"/invocation/next", ""), "200")
	equal(t, "response to another one", answer(newUUID(), "response"), "400 InvalidRequestID")
	equal(t, "init/error after Init", c.call("POST", api+"/init/error", `{}`), "403 InvalidStateTransition")
	equal(t, "response", answer(i.id, "response"), "202")
	equal(t, "a second response", answer(i.id, "error"), "403 InvalidStateTransition")
}

func TestAResponseAboveSixMegabytesIsAFunctionError(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	i := &invocation{id: newUUID(), posted: time.Now()}
	c.d.invoke(i, event{})
	got := c.call("POST", "/2018-06-01/runtime/invocation/"+i.id+"/response", strings.Repeat("x", maxPayload+1))
	equal(t, "too large", got, "413 RequestEntityTooLarge")
	if i.result == nil || i.result.FunctionError != unhandled || !strings.Contains(string(i.result.Payload), "ResponseSizeTooLarge") {
		t.Errorf("result is %+v", i.result)
	}
}

func TestTheAccountIsToldOnlyToThoseWhoAskForIt(t *testing.T) {
	t.Parallel()
	c := newCaller(t, "a", "b")
	for name, feature := range map[string]string{"a": "", "b": "other, accountId"} {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+c.address+"/2020-01-01/extension/register", strings.NewReader(`{}`))
		r.Header.Set("Lambda-Extension-Name", name)
		r.Header.Set("Lambda-Extension-Accept-Feature", feature)
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if got, want := strings.Contains(string(raw), "123456789012"), feature != ""; got != want {
			t.Errorf("feature %q: %s", feature, raw)
		}
	}
}
