// SPDX-License-Identifier: MPL-2.0

package lambdaext

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestEventsAreRead(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1700000002000)
	for name, tt := range map[string]struct {
		body string
		want Event
	}{
		"an invocation": {`{"eventType":"INVOKE","deadlineMs":1700000002000,"requestId":"r","invokedFunctionArn":"a","tracing":{"type":"t","value":"v"}}`,
			Event{Type: Invoke, Deadline: at, RequestID: "r", InvokedFunctionARN: "a"}},
		"reason in lower case": {`{"eventType":"SHUTDOWN","shutdownReason":"timeout","deadlineMs":1700000002000}`,
			Event{Type: Shutdown, ShutdownReason: Timeout, Deadline: at}},
		"reason in capitals":      {`{"eventType":"SHUTDOWN","shutdownReason":"SPINDOWN"}`, Event{Type: Shutdown, ShutdownReason: Spindown}},
		"reason with a capital":   {`{"eventType":"SHUTDOWN","shutdownReason":"Failure"}`, Event{Type: Shutdown, ShutdownReason: Failure}},
		"an unknown reason":       {`{"eventType":"SHUTDOWN","shutdownReason":"ReleaseFail"}`, Event{Type: Shutdown, ShutdownReason: "ReleaseFail"}},
		"no reason":               {`{"eventType":"SHUTDOWN"}`, Event{Type: Shutdown}},
		"an unknown type":         {`{"eventType":"RESTORE","shutdownReason":"x","requestId":"r"}`, Event{Type: "RESTORE", RequestID: "r"}},
		"details of wrong types":  {`{"eventType":"SHUTDOWN","shutdownReason":7,"requestId":{},"deadlineMs":[]}`, Event{Type: Shutdown}},
		"a type after a mismatch": {`{"shutdownReason":7,"eventType":"SHUTDOWN"}`, Event{Type: Shutdown}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := decodeEvent([]byte(tt.body)); err != nil || got != tt.want {
				t.Errorf("event %+v, error %v; want %+v", got, err, tt.want)
			}
		})
	}
}

// R16 counts back from the deadline: a wrong one must be none, which the caller has its own for.
func TestADeadlineThatMakesNoSenseIsNone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"1700000002000":        1700000002000,
		"1700000002000.9":      1700000002000,
		"1.7e12":               1700000000000,
		"1":                    1,
		"253402300799999":      253402300799999,
		"253402300800000":      0,
		"0":                    0,
		"-1":                   0,
		"0.5":                  0,
		"1e300":                0,
		"1e999":                0,
		"-1e999":               0,
		"99999999999999999999": 0,
		"null":                 0,
		"true":                 0,
		`"1700000002000"`:      0,
		`""`:                   0,
		"{}":                   0,
	} {
		event, err := decodeEvent([]byte(`{"eventType":"SHUTDOWN","deadlineMs":` + text + `}`))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		var got int64
		if !event.Deadline.IsZero() {
			got = event.Deadline.UnixMilli()
		}
		if got != want {
			t.Errorf("%s: deadline %d, want %d", text, got, want)
		}
	}
}

func TestWhatHasNoTypeIsNotAnEvent(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"", " ", "null", "7", `"SHUTDOWN"`, `["SHUTDOWN"]`, "{}", `{"eventType":""}`, `{"eventType":7}`, `{"eventType":"SHUTDOWN"`,
		`{"eventType":"SHUTDOWN"}x`, "<html>", strings.Repeat("[", 20000),
	} {
		if event, err := decodeEvent([]byte(body)); err == nil {
			t.Errorf("%.20q: event %+v", body, event)
		} else if len(err.Error()) > 2000 {
			t.Errorf("%.20q: an error of %d bytes", body, len(err.Error()))
		}
	}
}

// encode writes an event as the API would.
func encode(tb testing.TB, e Event) []byte {
	tb.Helper()
	members := map[string]any{"eventType": e.Type}
	if e.ShutdownReason != "" {
		members["shutdownReason"] = e.ShutdownReason
	}
	if !e.Deadline.IsZero() {
		members["deadlineMs"] = e.Deadline.UnixMilli()
	}
	if e.RequestID != "" {
		members["requestId"] = e.RequestID
	}
	if e.InvokedFunctionARN != "" {
		members["invokedFunctionArn"] = e.InvokedFunctionARN
	}
	text, err := json.Marshal(members)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// FuzzAnswers holds, for any answer to Next: an event that is accepted has a type and, written again, is read as the
// same event; and as a refusal, it becomes an error on one line of bounded length in valid UTF-8, which says the same
// when it is read again.
func FuzzAnswers(f *testing.F) {
	for _, body := range []string{
		shutdownEvent,
		`{"eventType":"INVOKE","deadlineMs":1700000002000,"requestId":"r","invokedFunctionArn":"a"}`,
		`{"eventType":"SHUTDOWN","shutdownReason":"TIMEOUT","deadlineMs":-1}`,
		`{"EVENTTYPE":"x","deadlineMs":1e999}`,
		`{"errorMessage":"m","errorType":"Extension.InvalidExtensionState"}`,
		"<html>\xff", "", "null",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if event, err := decodeEvent(body); err == nil {
			if event.Type == "" {
				t.Errorf("accepted an event without a type: %+v", event)
			}
			again, err := decodeEvent(encode(t, event))
			if err != nil || again != event {
				t.Errorf("read %+v (%v) from what %+v was written as", again, err, event)
			}
		}
		e := newAPIError("next", http.StatusForbidden, body)
		text := e.Error()
		if strings.ContainsAny(text, "\r\n") || !utf8.ValidString(text) || len(text) > 64+2*4*maxErrorText {
			t.Errorf("error text %q", text)
		}
		if e.Type == "" && e.Message == "" {
			return
		}
		written := fmt.Appendf(nil, `{"errorType":%s,"errorMessage":%s}`, quote(t, e.Type), quote(t, e.Message))
		again := newAPIError("next", http.StatusForbidden, written)
		if diff := cmp.Diff(e, again); diff != "" {
			t.Error(diff)
		}
		if errors.Is(e, ErrState) != errors.Is(again, ErrState) {
			t.Errorf("%v and %v differ in ErrState", e, again)
		}
	})
}

func quote(tb testing.TB, s string) []byte {
	tb.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}
