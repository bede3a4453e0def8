// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// jsonObject keeps what it does not know as it is.
type jsonObject map[string]json.RawMessage

// text returns a string field, "" for anything else.
func (o jsonObject) text(field string) string {
	var s string
	if json.Unmarshal(o[field], &s) != nil {
		return ""
	}
	return s
}

func quoted(s string) json.RawMessage { return marshal(s) }

// marshal encodes strings, and what json.Unmarshal has given before: that cannot fail.
func marshal(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("registrator: JSON that was read cannot be written: " + err.Error())
	}
	return raw
}

// sameJSON compares two values whatever the order of their members. Numbers compare as they are spelled: none is ours.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return decodeExact(a, &x) && decodeExact(b, &y) && reflect.DeepEqual(x, y)
}

func decodeExact(raw json.RawMessage, into *any) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(into) == nil
}

// saysNothing says whether a value is what Consul fills in for one that was not given.
func saysNothing(raw json.RawMessage) bool {
	var v any
	return json.Unmarshal(raw, &v) == nil && isEmpty(v)
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, member := range v {
			if !isEmpty(member) {
				return false
			}
		}
		return true
	}
	return false
}
