// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// G12: the events that the registrator is to understand, with the fields that say which function.
func TestEveryChangeThroughTheAPIMakesItsEvent(t *testing.T) {
	t.Parallel()
	var box mailbox
	w := start(t, Config{OnEvent: box.receive})
	w.AddFunction("quiet", nil) // not the API: no event
	ctx, name, arn := t.Context(), aws.String("orders"), aws.String(w.ARN("orders"))
	must[*lambda.CreateFunctionOutput](t)(w.lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: name, Role: aws.String("r"), Code: &types.FunctionCode{}, Tags: map[string]string{"k": "v"}}))
	must[*lambda.TagResourceOutput](t)(w.lambda.TagResource(ctx, &lambda.TagResourceInput{Resource: arn, Tags: map[string]string{"a": "b"}}))
	must[*lambda.UntagResourceOutput](t)(w.lambda.UntagResource(ctx, &lambda.UntagResourceInput{Resource: arn, TagKeys: []string{"a", "k"}}))
	must[*lambda.PublishVersionOutput](t)(w.lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name}))
	live := aws.String("live")
	must[*lambda.CreateAliasOutput](t)(w.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: name, Name: live, FunctionVersion: aws.String("$LATEST")}))
	must[*lambda.UpdateAliasOutput](t)(w.lambda.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: name, Name: live}))
	must[*lambda.DeleteAliasOutput](t)(w.lambda.DeleteAlias(ctx, &lambda.DeleteAliasInput{FunctionName: name, Name: live}))
	must[*lambda.DeleteFunctionOutput](t)(w.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name, Qualifier: aws.String("1")}))
	must[*lambda.DeleteFunctionOutput](t)(w.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: arn}))
	_ = w.get(t, "orders") // reads make none

	type object = map[string]any
	got := box.all(t, w)
	want := []struct {
		name       string
		parameters object
		response   string // a member of the response
	}{
		{"CreateFunction20150331", object{"functionName": "orders", "role": "r", "runtime": "provided.al2023", "handler": "bootstrap",
			"code": object{}, "publish": false, "tags": object{"k": "v"}}, "functionArn=" + *arn},
		{"TagResource20170331v2", object{"resource": *arn, "tags": object{"a": "b"}}, ""},
		{"UntagResource20170331v2", object{"resource": *arn, "tagKeys": []any{"a", "k"}}, ""},
		{"PublishVersion20150331", object{"functionName": "orders"}, "version=1"},
		{"CreateAlias20150331", object{"functionName": "orders", "name": "live", "functionVersion": "$LATEST"}, "aliasArn=" + *arn + ":live"},
		{"UpdateAlias20150331", object{"functionName": "orders", "name": "live"}, "functionVersion=$LATEST"},
		{"DeleteAlias20150331", object{"functionName": "orders", "name": "live"}, ""},
		{"DeleteFunction20150331", object{"functionName": "orders", "qualifier": "1"}, ""},
		{"DeleteFunction20150331", object{"functionName": *arn}, ""},
	}
	if len(got) != len(want) {
		t.Fatalf("%d events: %v", len(got), names(got))
	}
	for i, e := range got {
		if d := cmp.Diff(want[i].parameters, e.Detail.RequestParameters); e.Detail.EventName != want[i].name || d != "" {
			t.Errorf("event %d is %s, want %s:\n%s", i, e.Detail.EventName, want[i].name, d)
		}
		key, value, has := strings.Cut(want[i].response, "=")
		if has && e.Detail.ResponseElements[key] != value || !has && e.Detail.ResponseElements != nil {
			t.Errorf("event %d has the response %v, want %s", i, e.Detail.ResponseElements, want[i].response)
		}
		d := e.Detail
		if e.Version != "0" || e.Source != "aws.lambda" || e.DetailType != "AWS API Call via CloudTrail" || e.Account != "123456789012" ||
			e.Region != "us-east-1" || d.EventSource != "lambda.amazonaws.com" || d.AWSRegion != "us-east-1" || d.ErrorCode != "" || d.ReadOnly {
			t.Errorf("event %d is %+v", i, e)
		}
		if when, err := time.Parse(time.RFC3339, e.Time); err != nil || time.Since(when) > time.Minute || len(e.ID) != 36 {
			t.Errorf("event %d is %s of %s", i, e.ID, e.Time)
		}
	}
}

// G12: events that carry an errorCode are dropped; so there must be some.
func TestFailedCallsMakeEventsWithAnErrorCode(t *testing.T) {
	t.Parallel()
	var box mailbox
	w := start(t, Config{OnEvent: box.receive})
	w.AddFunction("f", nil)
	in := &lambda.DeleteFunctionInput{FunctionName: aws.String("none")}
	_, _ = w.lambda.DeleteFunction(t.Context(), in)
	in.FunctionName = aws.String("f")
	w.FailNext("DeleteFunction", 1, AccessDenied())
	_, _ = w.lambda.DeleteFunction(t.Context(), in)
	w.Deny("lambda:DeleteFunction")
	_, _ = w.lambda.DeleteFunction(t.Context(), in)
	w.Allow()
	w.FailNext("DeleteFunction", 1, Reset()) // nobody knows of it
	_, _ = w.lambda.DeleteFunction(t.Context(), in)
	w.FailNext("DeleteFunction", 1, Truncate()) // done, though the client does not learn it
	_, _ = w.lambda.DeleteFunction(t.Context(), in)
	var got []string
	for _, e := range box.all(t, w) {
		got = append(got, fmt.Sprint(e.Detail.RequestParameters["functionName"], " ", e.Detail.ErrorCode))
	}
	if want := []string{"none ResourceNotFoundException", "f AccessDeniedException", "f AccessDeniedException", "f "}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if _, ok := w.Get("f"); ok {
		t.Error("a deletion with a cut answer was not done")
	}
}

func TestSettersMakeEventsWhereAsked(t *testing.T) {
	t.Parallel()
	var box mailbox
	w := start(t, Config{OnEvent: box.receive, SetterEvents: true})
	w.AddFunctions(Function{Name: "f", Tags: map[string]string{"a": "1", "b": "2"}, Versions: 2, Aliases: map[string]string{"x": "1", "y": "2"}})
	w.SetTags("f", map[string]string{"b": "3"})
	w.SetTags("f", map[string]string{"b": "3"}) // changes nothing
	w.SetAliases("f", map[string]string{"y": "1", "z": "$LATEST"})
	w.Remove("f")
	if w.Remove("f") || w.SetTags("f", nil) || w.SetAliases("f", nil) {
		t.Error("a function that is gone was changed")
	}
	want := []string{
		"CreateFunction20150331", "CreateAlias20150331", "CreateAlias20150331", "UntagResource20170331v2", "TagResource20170331v2",
		"DeleteAlias20150331", "UpdateAlias20150331", "CreateAlias20150331", "DeleteFunction20150331",
	}
	if got := names(box.all(t, w)); !slices.Equal(got, want) {
		t.Errorf("events %v", got)
	}
}

// Events come unordered and more than once: what is made of them must be level-triggered (G1).
func TestJitterAndDuplicatesDisturbEventsButLoseNone(t *testing.T) {
	t.Parallel()
	const n = 200
	var order []string // OnEvent is called one at a time, and WaitEvents comes after it
	w := start(t, Config{
		SetterEvents: true, EventJitter: 20 * time.Millisecond, EventDuplicates: 0.5, EventSeed: 7,
		OnEvent: func(body []byte) {
			var e event
			if err := json.Unmarshal(body, &e); err != nil {
				t.Error(err)
			}
			order = append(order, e.Detail.RequestParameters["functionName"].(string))
		},
	})
	w.AddFunctions(many(n)...)
	if err := w.WaitEvents(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, name := range order {
		seen[name]++
	}
	if len(seen) != n || slices.Max(slices.Collect(maps.Values(seen))) != 2 {
		t.Errorf("%d functions in %d events", len(seen), len(order))
	}
	if len(order) < n+n/4 || len(order) > n+3*n/4 {
		t.Errorf("%d events of %d, half of them twice", len(order), n)
	}
	if slices.IsSorted(order) {
		t.Error("they came in order")
	}
}

func TestEventsComeInTheOrderOfTheChanges(t *testing.T) {
	t.Parallel()
	var box mailbox
	w := start(t, Config{OnEvent: box.receive, SetterEvents: true})
	w.AddFunctions(many(300)...)
	i := 0
	for _, e := range box.all(t, w) {
		if got, want := e.Detail.RequestParameters["functionName"], fmt.Sprintf("f%05d", i); got != want {
			t.Fatalf("event %d is of %v", i, got)
		}
		i++
	}
	if i != 300 {
		t.Errorf("%d events", i)
	}
}

func TestCloseDropsWhatIsNotDeliveredYet(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	n := 0
	w := start(t, Config{SetterEvents: true, OnEvent: func([]byte) {
		if n++; n == 1 {
			close(entered)
		}
		<-leave
	}})
	w.AddFunctions(many(3)...)
	<-entered
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		w.Close()
	}()
	waittest.Until(t, "Close to have begun", func() bool {
		w.courier.mu.Lock()
		defer w.courier.mu.Unlock()
		return w.courier.stopped
	})
	select {
	case <-closed:
		t.Error("Close did not wait for OnEvent")
	default:
	}
	close(leave)
	<-closed
	w.AddFunction("late", nil)
	if err := w.WaitEvents(t.Context()); err != nil || n != 1 {
		t.Errorf("%d events were delivered, %v", n, err)
	}
}

// The shapes are read with the types that Lambda functions in Go read them with.
func TestEventsHaveTheShapeOfEventBridge(t *testing.T) {
	t.Parallel()
	place := Place{Region: "cn-north-1", Account: "210987654321"}
	var e events.EventBridgeEvent
	if err := json.Unmarshal(place.ScheduledEvent("hourly"), &e); err != nil {
		t.Fatal(err)
	}
	if e.DetailType != "Scheduled Event" || e.Source != "aws.events" || e.AccountID != "210987654321" || string(e.Detail) != "{}" ||
		!slices.Equal(e.Resources, []string{"arn:aws-cn:events:cn-north-1:210987654321:rule/hourly"}) || time.Since(e.Time) > time.Minute {
		t.Errorf("scheduled: %+v", e)
	}
	at := time.Date(2026, 1, 15, 10, 29, 58, 0, time.UTC)
	if err := json.Unmarshal(place.APIEvent(APICall{Name: "TagResource20170331", Parameters: map[string]any{"resource": "r"}, Time: at}), &e); err != nil {
		t.Fatal(err)
	}
	var detail map[string]any
	if err := json.Unmarshal(e.Detail, &detail); err != nil {
		t.Fatal(err)
	}
	if !e.Time.Equal(at) || len(e.Resources) != 0 || detail["eventName"] != "TagResource20170331" || detail["eventTime"] != "2026-01-15T10:29:58Z" {
		t.Errorf("called: %+v, %v", e, detail)
	}
	if response, present := detail["responseElements"]; !present || response != nil {
		t.Errorf("the response is %v", response)
	}
	if _, present := detail["errorCode"]; present {
		t.Error("a call that succeeded has an error code")
	}
}
