// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func apiCall(name, detail string) string {
	return fmt.Sprintf(`{"version":"0","source":"aws.lambda","detail-type":"AWS API Call via CloudTrail","detail":{"eventSource":"lambda.amazonaws.com","eventName":%q,%s}}`, name, detail)
}

// G12, one line for each kind.
func TestEventsNarrowWhatIsLookedAt(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:lambda:us-east-1:123456789012:function:web"
	web := Scope{Functions: []string{"web"}}
	tests := []struct {
		name, event string
		want        Scope
		skip, err   string
	}{
		{"nothing", "", Scope{}, "", ""},
		{"null", " null ", Scope{}, "", ""},
		{"empty", "{}", Scope{}, "", ""},
		{"dry run", `{"dryRun":true}`, Scope{DryRun: true}, "", ""},
		{"no dry run", `{"dryRun":false}`, Scope{}, "", ""},
		{"rule", `{"source":"aws.events","detail-type":"Scheduled Event","detail":{}}`, Scope{}, "", ""},
		{"scheduler", `{"source":"aws.scheduler","detail-type":"anything"}`, Scope{}, "", ""},
		{"create", apiCall("CreateFunction20150331", `"responseElements":{"functionArn":"`+arn+`","functionName":"web"}`), web, "", ""},
		{"create by request", apiCall("CreateFunction20150331", `"requestParameters":{"functionName":"web"},"responseElements":null`), web, "", ""},
		{"delete", apiCall("DeleteFunction20150331", `"requestParameters":{"functionName":"web"},"responseElements":null`), web, "", ""},
		{"delete, no date", apiCall("DeleteFunction", `"requestParameters":{"functionName":"web"}`), web, "", ""},
		{"delete, ARN", apiCall("DeleteFunction20150331", `"requestParameters":{"functionName":"`+arn+`"}`), web, "", ""},
		{"delete, partial ARN", apiCall("DeleteFunction20150331", `"requestParameters":{"functionName":"123456789012:function:web"}`), web, "", ""},
		{"delete of a version", apiCall("DeleteFunction20150331", `"requestParameters":{"functionName":"web","qualifier":"3"}`), Scope{}, "version of web", ""},
		{"delete of a version, ARN", apiCall("DeleteFunction20150331", `"requestParameters":{"functionName":"`+arn+`:3"}`), Scope{}, "version of web", ""},
		{"delete that failed", apiCall("DeleteFunction20150331", `"errorCode":"ResourceNotFoundException","requestParameters":{"functionName":"web"}`), Scope{}, "ResourceNotFoundException", ""},
		{"tag", apiCall("TagResource20170331v2", `"requestParameters":{"resource":"`+arn+`"}`), web, "", ""},
		{"untag, old", apiCall("UntagResource20170331", `"requestParameters":{"resource":"`+arn+`"}`), web, "", ""},
		{"untag, a date to come", apiCall("UntagResource20310101v7", `"requestParameters":{"resource":"`+arn+`"}`), web, "", ""},
		{"tag of another resource", apiCall("TagResource20170331v2", `"requestParameters":{"resource":"arn:aws:lambda:us-east-1:123456789012:event-source-mapping:1"}`), Scope{}, "not a function", ""},
		{"another account's", apiCall("TagResource20170331v2", `"requestParameters":{"resource":"arn:aws:lambda:us-east-1:210987654321:function:web"}`), Scope{}, "not of aws:us-east-1:123456789012", ""},
		{"create alias", apiCall("CreateAlias20150331", `"requestParameters":{"functionName":"web","name":"prod"}`), web, "", ""},
		{"update alias", apiCall("UpdateAlias20150331", `"requestParameters":{"functionName":"`+arn+`","name":"prod"}`), web, "", ""},
		{"delete alias", apiCall("DeleteAlias20150331", `"requestParameters":{"functionName":"web","name":"prod"}`), web, "", ""},
		{"another call", apiCall("PublishVersion20150331", `"requestParameters":{"functionName":"web"}`), Scope{}, "", "PublishVersion20150331"},
		{"no name", apiCall("TagResource20170331v2", `"requestParameters":{}`), Scope{}, "", "TagResource20170331v2"},
		{"another service", `{"source":"aws.s3","detail-type":"Object Created"}`, Scope{}, "", "Object Created"},
		{"something else", `{"Records":[]}`, Scope{}, "", "Records"},
		{"a list", `[]`, Scope{}, "", "not a JSON object"},
		{"dry run of another type", `{"dryRun":"yes"}`, Scope{}, "", "dryRun"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseEvent([]byte(test.event), testOwner)
			if test.err != "" {
				if !errors.Is(err, ErrEvent) || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want one that names %q", err, test.err)
				}
				return
			}
			if test.skip != "" {
				if !strings.Contains(got.Skip, test.skip) || len(got.Functions) != 0 || got.full() {
					t.Errorf("scope %+v, want to skip it for %q", got, test.skip)
				}
				got.Skip = ""
			}
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("scope %+v, error %v, want %+v", got, err, test.want)
			}
		})
	}
}

// FuzzEvent: whatever comes, a scope names legal functions only, and is one of all, some or none; and a legal name in a known event
// comes out as it went in.
func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"dryRun":true}`), "web", 0)
	f.Add([]byte(apiCall("DeleteFunction20150331", `"requestParameters":{"functionName":"web:3"}`)), "a_B-9", 1)
	f.Add([]byte(apiCall("TagResource20170331v2", `"requestParameters":{"resource":"arn:aws:lambda:us-east-1:123456789012:function:web"}`)), "x", 2)
	f.Fuzz(func(t *testing.T, data []byte, name string, kind int) {
		s, err := ParseEvent(data, testOwner)
		if err != nil {
			if !errors.Is(err, ErrEvent) || !reflect.DeepEqual(s, Scope{}) {
				t.Errorf("scope %+v beside %v", s, err)
			}
		}
		for _, function := range s.Functions {
			if !functionPattern.MatchString(function) || s.Skip != "" {
				t.Errorf("scope %+v", s)
			}
		}
		arn, err := testOwner.Function(name)
		if err != nil {
			return
		}
		calls := []string{"CreateFunction", "DeleteFunction20150331", "TagResource20170331v2", "UntagResource20170331", "CreateAlias20150331", "UpdateAlias", "DeleteAlias20150331"}
		detail, _ := json.Marshal(map[string]any{"functionName": arn.String(), "resource": arn.String()})
		s, err = ParseEvent([]byte(apiCall(calls[uint(kind)%uint(len(calls))], `"requestParameters":`+string(detail))), testOwner)
		if err != nil || !slices.Equal(s.Functions, []string{name}) {
			t.Errorf("%q comes out as %+v, error %v", name, s, err)
		}
	})
}
