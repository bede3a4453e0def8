// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Scope says which functions a run looks at. It never says what to do with them: that is read anew (G1). The zero value is all.
type Scope struct {
	// Functions are names. Empty: all functions.
	Functions []string
	// DryRun: nothing is written, whatever the policy, and the result holds the plan.
	DryRun bool
	// Skip says why the run has nothing to look at. Empty: it has.
	Skip string
}

// full says whether s is all functions.
func (s Scope) full() bool { return len(s.Functions) == 0 && s.Skip == "" }

// event has the fields that are asked of EventBridge's events, and of our own {"dryRun":true}.
type event struct {
	DryRun     *bool  `json:"dryRun"`
	Source     string `json:"source"`
	DetailType string `json:"detail-type"`
	Detail     struct {
		EventSource       string `json:"eventSource"`
		EventName         string `json:"eventName"`
		ErrorCode         string `json:"errorCode"`
		RequestParameters struct {
			FunctionName string `json:"functionName"`
			Qualifier    string `json:"qualifier"`
			Resource     string `json:"resource"`
		} `json:"requestParameters"`
		ResponseElements struct {
			FunctionName string `json:"functionName"`
			FunctionARN  string `json:"functionArn"`
		} `json:"responseElements"`
	} `json:"detail"`
}

// datedName is a name of CloudTrail's with the date of the API's version, which older records do not have.
var datedName = regexp.MustCompile(`^([A-Za-z]+?)(?:[0-9]{8}(?:v[0-9]+)?)?$`)

// ParseEvent reads what invoked the registrator of that owner (G12):
//
//	nothing, null, {}, a scheduled event, any of aws.scheduler     all functions
//	{"dryRun":true}                                                all functions, and nothing is written
//	Create/DeleteFunction, Tag/UntagResource,
//	Create/Update/DeleteAlias, with any date at their end          that function
//
// An event about a call that failed, about a version, about a resource that is no function or about another owner's function gives
// a Scope with Skip. Everything else is an error that names the event and wraps ErrEvent.
func ParseEvent(data []byte, owner Owner) (Scope, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "null" {
		return Scope{}, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return Scope{}, fmt.Errorf("%w: not a JSON object", ErrEvent)
	}
	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		return Scope{}, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	switch {
	case len(fields) == 0, e.Source == "aws.scheduler":
		return Scope{}, nil
	case e.DryRun != nil && len(fields) == 1:
		return Scope{DryRun: *e.DryRun}, nil
	case e.Source == "aws.events" && e.DetailType == "Scheduled Event":
		return Scope{}, nil
	case e.Source == "" && e.DetailType == "":
		return Scope{}, fmt.Errorf("%w: fields %s: want an event of EventBridge, {\"dryRun\":true} or {}",
			ErrEvent, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
	case e.Source != "aws.lambda" || e.DetailType != "AWS API Call via CloudTrail",
		e.Detail.EventSource != "" && e.Detail.EventSource != "lambda.amazonaws.com":
		return Scope{}, fmt.Errorf("%w: %q of %q: want a schedule's, or an API call of aws.lambda", ErrEvent, e.DetailType, e.Source)
	}
	return e.scope(owner)
}

// scope reads an API call that CloudTrail recorded. DeleteFunction has no response; CreateFunction's has the ARN.
func (e event) scope(owner Owner) (Scope, error) {
	detail, reference := e.Detail, ""
	name := datedName.FindStringSubmatch(detail.EventName)
	if name == nil {
		return Scope{}, fmt.Errorf("%w: API call %q", ErrEvent, detail.EventName)
	}
	switch name[1] {
	case "CreateFunction":
		reference = cmp.Or(detail.ResponseElements.FunctionARN, detail.ResponseElements.FunctionName, detail.RequestParameters.FunctionName)
	case "DeleteFunction", "CreateAlias", "UpdateAlias", "DeleteAlias":
		reference = detail.RequestParameters.FunctionName
	case "TagResource", "UntagResource":
		reference = detail.RequestParameters.Resource
	default:
		return Scope{}, fmt.Errorf("%w: API call %q: want Create- or DeleteFunction, Tag- or UntagResource, or Create-, Update- or DeleteAlias",
			ErrEvent, detail.EventName)
	}
	if detail.ErrorCode != "" {
		return Scope{Skip: detail.EventName + " failed with " + detail.ErrorCode}, nil
	}
	if strings.HasPrefix(reference, "arn:") && !strings.Contains(reference, ":function:") {
		return Scope{Skip: reference + " is not a function"}, nil
	}
	function, qualifier, err := readReference(reference, owner)
	switch {
	case err != nil:
		return Scope{}, fmt.Errorf("%w: %s of %q: %w", ErrEvent, detail.EventName, reference, err)
	case function.Owner() != owner:
		return Scope{Skip: reference + " is not of " + owner.String()}, nil
	case name[1] == "DeleteFunction" && cmp.Or(qualifier, detail.RequestParameters.Qualifier) != "":
		return Scope{Skip: "only a version of " + function.Name() + " was deleted"}, nil
	}
	return Scope{Functions: []string{function.Name()}}, nil
}

// readReference reads what Lambda's API takes for a function: a name, ACCOUNT:function:NAME or an ARN, each with or without a
// qualifier. The owner fills in what is not said.
func readReference(s string, owner Owner) (function ARN, qualifier string, err error) {
	if strings.HasPrefix(s, "arn:") {
		return ParseQualifiedARN(s)
	}
	parts := strings.Split(s, ":")
	if len(parts) >= 3 && parts[1] == "function" {
		owner.Account, parts = parts[0], parts[2:]
	}
	if len(parts) > 2 {
		return ARN{}, "", fmt.Errorf("want a function's name, ACCOUNT:function:NAME or %s", arnForm)
	}
	if len(parts) == 2 {
		qualifier = parts[1]
	}
	function, err = owner.Function(parts[0])
	return function, qualifier, err
}
