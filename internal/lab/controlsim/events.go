// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// The names under which CloudTrail records Lambda's calls: the operation, and the version of the API that it is from.
// https://docs.aws.amazon.com/lambda/latest/dg/logging-using-cloudtrail.html
const (
	createFunction = "CreateFunction20150331"
	deleteFunction = "DeleteFunction20150331"
	publishVersion = "PublishVersion20150331"
	tagResource    = "TagResource20170331v2"
	untagResource  = "UntagResource20170331v2"
	createAlias    = "CreateAlias20150331"
	updateAlias    = "UpdateAlias20150331"
	deleteAlias    = "DeleteAlias20150331"
)

// Place is where an event comes from. Its zero value is account 123456789012 in us-east-1; an empty partition is the
// region's.
type Place struct{ Partition, Region, Account string }

// APICall is a call of Lambda's API as CloudTrail records it.
type APICall struct {
	// Name is CloudTrail's: "TagResource20170331v2".
	Name string
	// Parameters is the record's requestParameters, Response its responseElements: nil, a map, or a struct. Names that
	// start with a capital, as they do in the API, are given a small one, as CloudTrail does at the top level.
	Parameters, Response any
	// ErrorCode and ErrorMessage are those of a call that failed. Empty: it did not.
	ErrorCode, ErrorMessage string
	// Caller is the ARN of who called. Empty: a role of the account.
	Caller string
	// Time is when it was made. Zero: now.
	Time time.Time
}

// envelope is what EventBridge delivers.
type envelope struct {
	Version    string   `json:"version"`
	ID         string   `json:"id"`
	DetailType string   `json:"detail-type"`
	Source     string   `json:"source"`
	Account    string   `json:"account"`
	Time       string   `json:"time"`
	Region     string   `json:"region"`
	Resources  []string `json:"resources"`
	Detail     any      `json:"detail"`
}

// record is CloudTrail's of a management call.
type record struct {
	EventVersion       string         `json:"eventVersion"`
	UserIdentity       identity       `json:"userIdentity"`
	EventTime          string         `json:"eventTime"`
	EventSource        string         `json:"eventSource"`
	EventName          string         `json:"eventName"`
	AWSRegion          string         `json:"awsRegion"`
	SourceIPAddress    string         `json:"sourceIPAddress"`
	UserAgent          string         `json:"userAgent"`
	ErrorCode          string         `json:"errorCode,omitempty"`
	ErrorMessage       string         `json:"errorMessage,omitempty"`
	RequestParameters  map[string]any `json:"requestParameters"`
	ResponseElements   map[string]any `json:"responseElements"`
	RequestID          string         `json:"requestID"`
	EventID            string         `json:"eventID"`
	ReadOnly           bool           `json:"readOnly"`
	EventType          string         `json:"eventType"`
	ManagementEvent    bool           `json:"managementEvent"`
	RecipientAccountID string         `json:"recipientAccountId"`
	EventCategory      string         `json:"eventCategory"`
}

type identity struct {
	Type      string `json:"type"`
	ARN       string `json:"arn"`
	AccountID string `json:"accountId"`
}

// APIEvent is the EventBridge event of a call.
func (p Place) APIEvent(c APICall) []byte {
	account := p.resolve()
	at := c.Time
	if at.IsZero() {
		at = time.Now()
	}
	return p.event(envelope{
		DetailType: "AWS API Call via CloudTrail", Source: "aws.lambda", Time: stamp(at), Resources: []string{},
		Detail: record{
			EventVersion: "1.09",
			UserIdentity: identity{Type: "AssumedRole", ARN: cmp.Or(c.Caller, account.Caller), AccountID: account.ID},
			EventTime:    stamp(at), EventSource: "lambda.amazonaws.com", EventName: c.Name, AWSRegion: account.Region,
			SourceIPAddress: "203.0.113.25", UserAgent: "aws-sdk-go-v2", ErrorCode: c.ErrorCode, ErrorMessage: c.ErrorMessage,
			RequestParameters: elements(c.Parameters), ResponseElements: elements(c.Response),
			RequestID: awswire.RequestID(), EventID: awswire.RequestID(),
			EventType: "AwsApiCall", ManagementEvent: true, RecipientAccountID: account.ID, EventCategory: "Management",
		},
	})
}

// ScheduledEvent is the event of a scheduled rule of EventBridge, of that name.
func (p Place) ScheduledEvent(rule string) []byte {
	return p.event(envelope{
		DetailType: "Scheduled Event", Source: "aws.events", Time: stamp(time.Now()),
		Resources: []string{p.resolve().ARN("events", "rule/"+rule)}, Detail: struct{}{},
	})
}

// event fills in what all events have.
func (p Place) event(e envelope) []byte {
	account := p.resolve()
	e.Version, e.ID, e.Account, e.Region = "0", awswire.RequestID(), account.ID, account.Region
	b, err := json.Marshal(e)
	if err != nil {
		panic(fmt.Sprintf("controlsim: an event that is not JSON: %v", err)) // the caller's parameters are at fault
	}
	return b
}

func (p Place) resolve() awswire.Account {
	return awswire.Account{Partition: p.Partition, Region: p.Region, ID: p.Account}.Resolve()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// elements is a value's JSON object, with names that start small. Nil stays nil.
func elements(v any) map[string]any {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("controlsim: an event that is not JSON: %v", err))
	}
	var object map[string]any
	if err := json.Unmarshal(b, &object); err != nil {
		panic(fmt.Sprintf("controlsim: an event's element that is not an object: %v", err))
	}
	small := make(map[string]any, len(object))
	for name, value := range object {
		small[strings.ToLower(name[:min(1, len(name))])+name[min(1, len(name)):]] = value
	}
	return small
}

// The parameters of calls as CloudTrail has them.

func createParameters(f Function) map[string]any {
	p := map[string]any{
		"functionName": f.Name, "role": f.Role, "runtime": runtime, "handler": handler, "code": map[string]any{}, "publish": false,
	}
	if len(f.Tags) > 0 {
		p["tags"] = f.Tags
	}
	return p
}

func tagParameters(resource string, tags map[string]string) map[string]any {
	return map[string]any{"resource": resource, "tags": tags}
}

func untagParameters(resource string, keys []string) map[string]any {
	return map[string]any{"resource": resource, "tagKeys": keys}
}

// aliasParameters leaves an empty version out: DeleteAlias has none, UpdateAlias may have none.
func aliasParameters(function, alias, version string) map[string]any {
	p := map[string]any{"functionName": function, "name": alias}
	if version != "" {
		p["functionVersion"] = version
	}
	return p
}
