// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const (
	serviceDefaults = "service-defaults"
	proxyDefaults   = "proxy-defaults"
	globalName      = "global" // of the only proxy-defaults entry
)

// otherKinds exist in Consul, but not here.
var otherKinds = []string{
	"service-router", "service-splitter", "service-resolver", "ingress-gateway", "terminating-gateway",
	"service-intentions", "mesh", "exported-services", "sameness-group", "api-gateway", "bound-api-gateway",
	"file-system-certificate", "inline-certificate", "http-route", "tcp-route", "jwt-provider",
}

type entryKey struct {
	kind  string
	scope scope
	name  string // lower case
}

// entry is a config entry: a raw JSON object, whose known fields have the
// spelling that Consul shows.
type entry struct {
	name                     string
	fields                   map[string]json.RawMessage // without indexes and hash
	createIndex, modifyIndex uint64
}

// knownFields maps a field's name in lower case and without underscores to how
// Consul shows it: both spellings are accepted, at the top of an entry and in
// an Envoy extension.
var knownFields = func() map[string]string {
	m := make(map[string]string)
	for _, f := range []string{
		"Kind", "Name", "Namespace", "Partition", "Protocol", "Mode", "TransparentProxy", "MutualTLSMode", "MeshGateway",
		"Expose", "ExternalSNI", "UpstreamConfig", "Destination", "MaxInboundConnections", "LocalConnectTimeoutMs",
		"LocalRequestTimeoutMs", "BalanceInboundConnections", "RateLimits", "EnvoyExtensions", "Meta", "Hash",
		"MaxRequestHeadersKB", "CreateIndex", "ModifyIndex", "Config", "AccessLogs",
		"Required", "Arguments", "ConsulVersion", "EnvoyVersion",
	} {
		m[strings.ToLower(f)] = f
	}
	return m
}()

// canonical gives the known fields their usual spelling.
func canonical(fields map[string]json.RawMessage) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(fields))
	for k, v := range fields {
		if known, ok := knownFields[strings.ReplaceAll(strings.ToLower(k), "_", "")]; ok {
			k = known
		}
		out[k] = v
	}
	return out
}

// text returns a field that is a string, or "".
func text(fields map[string]json.RawMessage, name string) string {
	var s string
	_ = json.Unmarshal(fields[name], &s) // another type is as good as none here
	return s
}

// show returns the entry as answers have it.
func (e *entry) show() map[string]json.RawMessage {
	out := maps.Clone(e.fields)
	number := func(n uint64) json.RawMessage { return json.RawMessage(strconv.FormatUint(n, 10)) }
	h := fnv.New64a()
	_, _ = h.Write(marshal(e.fields)) // never fails
	// Consul's hash has no meaning either, but it takes all 64 bits: who keeps
	// numbers as floating point breaks it.
	out["Hash"] = number(h.Sum64())
	out["CreateIndex"] = number(e.createIndex)
	out["ModifyIndex"] = number(e.modifyIndex)
	return out
}

// same compares content, whatever the order of its fields.
func (e *entry) same(other *entry) bool {
	return reflect.DeepEqual(decoded(e.fields), decoded(other.fields))
}

func decoded(fields map[string]json.RawMessage) any {
	d := json.NewDecoder(bytes.NewReader(marshal(fields)))
	d.UseNumber()
	var v any
	_ = d.Decode(&v) // what marshal made
	return v
}

// checkKind returns what Consul says to a kind that it does not have.
func checkKind(kind string) error {
	switch {
	case kind == serviceDefaults, kind == proxyDefaults:
		return nil
	case slices.Contains(otherKinds, kind):
		return fmt.Errorf("config entries of kind %s are not part of this server", kind)
	}
	return fmt.Errorf("invalid config entry kind: %s", kind)
}

// decodeEntry reads a body, which must be one object of a kind that exists.
func decodeEntry(body []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	var in map[string]json.RawMessage
	if err := d.Decode(&in); err != nil && err != io.EOF {
		return nil, err
	} else if err != nil {
		return nil, io.EOF
	}
	kind, ok := in["Kind"]
	if !ok {
		if kind, ok = in["kind"]; !ok {
			return nil, fmt.Errorf("Payload does not contain a kind/Kind key at the top level") //nolint:staticcheck // Consul's words
		}
	}
	fields := canonical(in)
	var s string
	if json.Unmarshal(kind, &s) != nil {
		return nil, fmt.Errorf("Kind value in payload is not a string") //nolint:staticcheck // Consul's words
	}
	return fields, checkKind(s)
}

// newEntry checks the fields and brings them into the form that Consul shows.
// It changes the map.
func (s *Server) newEntry(fields map[string]json.RawMessage, sc scope) (entryKey, *entry, error) {
	for _, computed := range []string{"CreateIndex", "ModifyIndex", "Hash"} {
		delete(fields, computed)
	}
	kind, name := text(fields, "Kind"), text(fields, "Name")
	for f, v := range fields {
		fields[f] = compact(v, nil)
		if fields[f] == nil {
			delete(fields, f) // null is as good as missing
		}
	}
	if s.cfg.Enterprise {
		fields["Partition"], fields["Namespace"] = marshal(sc.partition), marshal(sc.namespace)
	}
	for _, always := range []string{"TransparentProxy", "MeshGateway", "Expose"} {
		if fields[always] == nil {
			fields[always] = json.RawMessage(`{}`)
		}
	}
	var err error
	switch kind {
	case proxyDefaults:
		if name != globalName {
			return entryKey{}, nil, fmt.Errorf("invalid name (%q), only %q is supported", name, globalName)
		}
	case serviceDefaults:
		fields["Protocol"] = marshal(strings.ToLower(text(fields, "Protocol")))
		err = checkServiceDefaults(name, fields)
	}
	if err != nil {
		return entryKey{}, nil, err
	}
	return entryKey{kind, sc, strings.ToLower(name)}, &entry{name: name, fields: fields}, nil
}

// checkServiceDefaults applies Consul's rules for the fields that this server
// knows, and completes the Envoy extensions.
func checkServiceDefaults(name string, fields map[string]json.RawMessage) error {
	switch name {
	case "":
		return fmt.Errorf("Name is required") //nolint:staticcheck // Consul's words
	case "*":
		return fmt.Errorf("service-defaults name must be the name of a service, and not a wildcard")
	}
	var wrong []string
	var meta map[string]string
	if err := unmarshalField(fields, "Meta", &meta); err != nil {
		return err
	}
	if len(meta) > metaPairs {
		wrong = append(wrong, fmt.Sprintf("Meta exceeds maximum element count %d", metaPairs))
	}
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		if len(k) > metaKeyLength {
			wrong = append(wrong, fmt.Sprintf("Meta key %q exceeds maximum length %d", k, metaKeyLength))
		}
		if len(meta[k]) > metaValueLimit {
			wrong = append(wrong, fmt.Sprintf("Meta value for key %q exceeds maximum length %d", k, metaValueLimit))
		}
	}
	switch p := text(fields, "Protocol"); p {
	case "", "http", "http2", "grpc", "tcp":
	default:
		wrong = append(wrong, "invalid value for protocol: "+p)
	}
	var extensions []map[string]json.RawMessage
	if err := unmarshalField(fields, "EnvoyExtensions", &extensions); err != nil {
		return err
	}
	for i := range extensions {
		extensions[i] = canonical(extensions[i])
		if err := checkExtension(i, extensions[i]); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if extensions != nil {
		fields["EnvoyExtensions"] = marshal(extensions)
	}
	if len(wrong) > 0 {
		return listed(wrong...)
	}
	return nil
}

func unmarshalField(fields map[string]json.RawMessage, name string, out any) error {
	if fields[name] == nil {
		return nil
	}
	if err := json.Unmarshal(fields[name], out); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// builtins are the extensions that Consul has without Enterprise.
var builtins = []string{
	lambdaExtension, "builtin/ext-authz", "builtin/lua", "builtin/otel-access-logging", "builtin/property-override", "builtin/wasm",
}

const lambdaExtension = "builtin/aws/lambda"

// checkExtension checks one extension and fills in what Consul always shows.
func checkExtension(i int, ext map[string]json.RawMessage) error {
	for field, zero := range map[string]string{
		"Name": `""`, "Required": `false`, "Arguments": `null`, "ConsulVersion": `""`, "EnvoyVersion": `""`,
	} {
		if ext[field] == nil {
			ext[field] = json.RawMessage(zero)
		}
	}
	name := text(ext, "Name")
	switch {
	case name == "":
		return fmt.Errorf("invalid EnvoyExtensions[%d]: Name is required", i)
	case !slices.Contains(builtins, name):
		return fmt.Errorf("invalid EnvoyExtensions[%d][%s]: name %q is not a built-in extension", i, name, name)
	case name == lambdaExtension && lambdaARN(ext["Arguments"]) == "":
		return fmt.Errorf("invalid EnvoyExtensions[%d][%s]: %w", i, name, listed("ARN is required"))
	}
	return nil
}

// lambdaARN reads the ARN, whose key may be in any case.
func lambdaARN(arguments json.RawMessage) string {
	var args struct{ ARN string }
	_ = json.Unmarshal(arguments, &args) // no object: no ARN
	return args.ARN
}

// listed joins errors as Consul's library does it.
func listed(what ...string) error {
	noun := "error"
	if len(what) > 1 {
		noun = "errors"
	}
	return fmt.Errorf("%d %s occurred:\n\t* %s\n\n", len(what), noun, strings.Join(what, "\n\t* ")) //nolint:staticcheck // Consul's words
}
