// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func testRecord(t testing.TB) record {
	t.Helper()
	return record{Key: service(t, "web"), function: function(t, testOwner, "web", nil).ARN, asynchronous: true}
}

// G6: our part is merged into what others wrote, and taken out again without a trace.
func TestOurPartOfAnEntryComesAndGoes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, before string
		goes         bool // the entry goes with our part
	}{
		{"one that we make", "", true},
		{"without a protocol", `{"Kind":"service-defaults","Name":"web","MeshGateway":{"Mode":"local"},"Future":{"n":12345678901234567890}}`, false},
		{"with the protocol", `{"Kind":"service-defaults","Name":"web","Protocol":"http","Meta":{"team":"a"}}`, false},
		{"with other extensions", `{"Kind":"service-defaults","Name":"web","EnvoyExtensions":[{"Name":"builtin/lua","Arguments":{"Script":"<>"}}]}`, false},
	}
	r := testRecord(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e, whose := newEntry(r.Key), holdNone
			if test.before != "" {
				var err error
				if e, err = readEntry(json.RawMessage(test.before)); err != nil {
					t.Fatal(err)
				}
				whose = e.hold(testOwner)
			}
			merged := e.merge(r, e.made(whose, false))
			for _, want := range []string{`"Protocol":"http"`, `"ARN":"` + r.arn() + `"`, `"InvocationMode":"asynchronous"`} {
				if !strings.Contains(string(merged), want) {
					t.Errorf("%s does not hold %s", merged, want)
				}
			}
			again, err := readEntry(merged)
			if err != nil || again.hold(testOwner) != holdOurs || again.hold(otherOwner) != holdForeign {
				t.Fatalf("error %v, hold %v", err, again.hold(testOwner))
			}
			rest, empty := again.unmerge(again.made(holdOurs, false))
			if empty != test.goes || test.before != "" && !sameJSON(rest, json.RawMessage(test.before)) {
				t.Errorf("left %s, goes %v", rest, empty)
			}
		})
	}
}

// An entry that we made stays if somebody has put something into it since.
func TestAnEntryThatWeMadeStaysWithWhatOthersPutThere(t *testing.T) {
	t.Parallel()
	r := testRecord(t)
	raw := newEntry(r.Key).merge(r, madeEntry)
	for field, goes := range map[string]bool{`"Expose":{"Checks":false,"Paths":[]}`: true, `"ExternalSNI":""`: true, `"MaxInboundConnections":3`: false} {
		e, err := readEntry(bytes.Replace(raw, []byte("{"), []byte("{"+field+","), 1))
		if err != nil {
			t.Fatal(err)
		}
		if rest, empty := e.unmerge(e.made(holdOurs, false)); empty != goes {
			t.Errorf("with %s: %s goes: %v", field, rest, empty)
		}
	}
}

func TestEntriesThatCannotBeMerged(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{``, `null`, `[]`, `{"Protocol":1}`, `{"Meta":[]}`, `{"EnvoyExtensions":{}}`,
		`{"EnvoyExtensions":[{"Name":"builtin/aws/lambda"},{"Name":"builtin/aws/lambda"}]}`,
		`{"EnvoyExtensions":[{"Name":"builtin/aws/lambda","Arguments":[]}]}`} {
		if _, err := readEntry(json.RawMessage(raw)); err == nil {
			t.Errorf("%s was read", raw)
		}
	}
}

// FuzzDefaults, for whatever entry can be read: merging twice is merging once; each field that is not ours survives; and taking our
// part out of what was somebody's gives what they had, but for the protocol's and the lists' ways to say nothing.
func FuzzDefaults(f *testing.F) {
	f.Add([]byte(`{"Name":"web","Protocol":"http","Meta":{"a":"b"},"X":1e400}`))
	f.Add([]byte(`{"EnvoyExtensions":[{"Name":"builtin/lua"},{"Name":"builtin/aws/lambda","Arguments":{"arn":"x","Other":1},"Required":true}]}`))
	f.Add([]byte(`{"Protocol":"","Meta":null,"EnvoyExtensions":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := readEntry(data)
		if err != nil {
			return
		}
		r := testRecord(t)
		whose := e.hold(testOwner)
		once := e.merge(r, e.made(whose, false))
		merged, err := readEntry(once)
		if err != nil {
			t.Fatalf("%s cannot be read: %v", once, err)
		}
		if twice := merged.merge(r, merged.made(holdOurs, false)); !bytes.Equal(once, twice) {
			t.Errorf("merged once\n%s\ntwice\n%s", once, twice)
		}
		if function, alias := merged.arn(); function != r.function || alias != "" {
			t.Errorf("%s invokes %v", once, function)
		}
		for field, value := range e.fields {
			switch field {
			case "Protocol", "EnvoyExtensions", "Meta":
			default:
				if !sameJSON(value, merged.fields[field]) {
					t.Errorf("field %q became %s", field, merged.fields[field])
				}
			}
		}
		if whose != holdPlain || e.protocol != "" && e.protocol != "http" || e.meta[metaMade] != nil || e.meta[metaOwner] != nil {
			return // not merged in a run, or marked with our words by somebody else
		}
		rest, empty := merged.unmerge(merged.made(holdOurs, false))
		if empty {
			t.Error("somebody's entry would go")
		}
		for field, value := range map[string]bool{"Protocol": e.protocol == "", "EnvoyExtensions": len(e.extensions) == 0, "Meta": len(e.meta) == 0} {
			if value {
				delete(e.fields, field)
			}
		}
		if !sameJSON(rest, marshal(e.fields)) {
			t.Errorf("left\n%s\nwas\n%s", rest, data)
		}
	})
}
