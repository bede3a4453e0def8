// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

var testPlacement = placement{datacenters: []string{"dc1", "dc2"}, partitions: []string{""}, prefix: testPrefix}

func TestTagsAreReadAsThePredecessorReadThem(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		tags  map[string]string
		names []string
		text  string // of why, or of the mistake
	}{
		{"no tags", nil, nil, "has no tag"},
		{"enabled", map[string]string{"enabled": "true"}, []string{"f"}, ""},
		{"enabled in capitals", map[string]string{"enabled": " True "}, []string{"f"}, ""},
		{"disabled with other mistakes", map[string]string{"enabled": "false", "aliases": "?"}, nil, `is "false"`},
		{"enabled is unreadable", map[string]string{"enabled": "yes"}, nil, `enabled is "yes": want true or false`},
		{"enabled is empty", map[string]string{"enabled": ""}, nil, `enabled is "": want true or false`},
		{"aliases", map[string]string{"enabled": "true", "aliases": "prod + dev+prod"}, []string{"f", "f-prod", "f-dev"}, ""},
		{"an empty alias", map[string]string{"enabled": "true", "aliases": "prod+"}, nil, `aliases is "prod+": want`},
		{"a version for an alias", map[string]string{"enabled": "true", "aliases": "12"}, nil, "not digits only"},
		{"mode", map[string]string{"enabled": "true", "invocation-mode": "aSynchronous"}, []string{"f"}, ""},
		{"bad mode", map[string]string{"enabled": "true", "invocation-mode": "async"}, nil, `invocation-mode is "async": want SYNCHRONOUS or ASYNCHRONOUS`},
		{"bad passthrough", map[string]string{"enabled": "true", "payload-passthrough": "no"}, nil, `payload-passthrough is "no": want true or false`},
		{"bad datacenter", map[string]string{"enabled": "true", "datacenter": "dc3"}, nil, `datacenter is "dc3": want one of Consul's: dc1, dc2`},
		{"default names", map[string]string{"enabled": "true", "namespace": "default", "partition": "default"}, []string{"f"}, ""},
		{"a namespace without Enterprise", map[string]string{"enabled": "true", "namespace": "eu"}, nil, "Enterprise"},
		{"a partition without Enterprise", map[string]string{"enabled": "true", "partition": "apps"}, nil, "Enterprise"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tags := make(map[string]string)
			for name, value := range test.tags {
				tags[TagPrefix+name] = value
			}
			w := testPlacement.wish(function(t, testOwner, "f", tags))
			var names []string
			for _, r := range w.records {
				names = append(names, r.Service.Name())
			}
			if !slices.Equal(names, test.names) {
				t.Errorf("services %q, want %q", names, test.names)
			}
			text := w.why
			if w.err != nil {
				text = w.err.Error()
			}
			if !strings.Contains(text, test.text) || (test.text == "") != (text == "") {
				t.Errorf("text %q does not hold %q", text, test.text)
			}
		})
	}
}

// FuzzTags: a function's tags give records of which each is legal and no two are the same, or none and a reason, or an error that
// names the tag and its value.
func FuzzTags(f *testing.F) {
	f.Add("true", "prod+dev", "ASYNCHRONOUS", "true", "dc2", "eu", "apps")
	f.Add("true", "", "", "", "", "", "")
	f.Add("false", "+", "x", "y", "z", " ", "default")
	f.Fuzz(func(t *testing.T, enabled, aliases, mode, passthrough, datacenter, namespace, partition string) {
		tags := map[string]string{TagEnabled: enabled, TagAliases: aliases, TagMode: mode, TagPassthrough: passthrough,
			TagDatacenter: datacenter, TagNamespace: namespace, TagPartition: partition}
		if passthrough == "" {
			delete(tags, TagPassthrough)
		}
		p := testPlacement
		p.enterprise, p.partitions = true, []string{"", "apps"}
		fn := function(t, testOwner, "f", tags)
		w := p.wish(fn)
		var tag *tagError
		switch {
		case w.err != nil:
			if len(w.records) != 0 {
				t.Error("records beside an error")
			}
			if errors.As(w.err, &tag) && (tag.Want == "" || strings.TrimSpace(tags[tag.Tag]) != strings.TrimSpace(tag.Value)) {
				t.Errorf("%v does not name what is wrong with %q", w.err, tags)
			}
		case len(w.records) == 0:
			if w.why == "" {
				t.Errorf("no records of %q, and no reason", tags)
			}
		default:
			seen := make(map[Key]bool)
			for i, r := range w.records {
				if seen[r.Key] || r.Service.IsZero() || r.function != fn.ARN || (i == 0) != (r.alias == "") || r.alias != "" && r.document != "" {
					t.Errorf("record %+v", r)
				}
				seen[r.Key] = true
				if a, q, err := ParseQualifiedARN(r.arn()); err != nil || a != fn.ARN || q != r.alias {
					t.Errorf("ARN %q: %v", r.arn(), err)
				}
				if r.asynchronous != strings.EqualFold(strings.TrimSpace(mode), "asynchronous") {
					t.Errorf("mode %q is read as %v", mode, r.asynchronous)
				}
			}
		}
	})
}

// Control-plane defect: "arn:aws: hard-coded".
func TestARNsOfAllPartitions(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"arn:aws:lambda:us-east-1:123456789012:function:f",
		"arn:aws-cn:lambda:cn-northwest-1:123456789012:function:F_1",
		"arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f",
		"arn:aws-iso-b:lambda:us-isob-east-1:123456789012:function:f",
		"arn:aws-eusc:lambda:eusc-de-east-1:123456789012:function:f",
	} {
		a, err := ParseARN(s)
		if err != nil || a.String() != s || a.qualified("") != s || a.qualified("prod") != s+":prod" {
			t.Errorf("%q is read as %v, error %v", s, a, err)
		}
		if again, err := a.Owner().Function(a.Name()); err != nil || again != a {
			t.Errorf("%v, error %v", again, err)
		}
		if _, err := ParseARN(s + ":prod"); !errors.Is(err, ErrARN) || !strings.Contains(err.Error(), "prod") {
			t.Errorf("a qualifier: error %v", err)
		}
	}
	for _, s := range []string{"", "f", "arn:aws:lambda:us-east-1:1:function:f", "arn:aws:lambda:us-east-1:123456789012:function:",
		"arn:aws:s3:us-east-1:123456789012:function:f", "arn:x:lambda:us-east-1:123456789012:function:f",
		"arn:aws:lambda:us-east-1:123456789012:function:f:a:b", "arn:aws:lambda:us-east-1:123456789012:layer:f",
		"arn:aws:lambda:us-east-1:123456789012:function:f:a b"} {
		if a, err := ParseARN(s); !errors.Is(err, ErrARN) || !a.IsZero() {
			t.Errorf("%q is read as %v, error %v", s, a, err)
		}
	}
	if (ARN{}).String()+(ARN{}).qualified("x")+(Owner{}).String() != "" {
		t.Error("zero values are not empty")
	}
}
