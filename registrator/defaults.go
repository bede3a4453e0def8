// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Of a service-defaults entry these are ours: Protocol, the one EnvoyExtension "builtin/aws/lambda", and two pairs of Meta. They
// are handled as raw JSON, for everything else in the entry is somebody's who may know more fields than we do (G6).
const (
	extensionName = "builtin/aws/lambda"
	protocolHTTP  = "http"

	metaMade = "lambda-made" // how much of the entry we made
)

// The values of metaMade.
const (
	madeEntry     = "entry"     // all of it: it may go when nothing of somebody else's is in it
	madeProtocol  = "protocol"  // the protocol and the extension
	madeExtension = "extension" // the extension only: the protocol had been http before
)

var errTwoExtensions = errors.New("has more than one extension " + extensionName)

// entry is a service-defaults entry taken apart.
type entry struct {
	fields     jsonObject
	protocol   string
	extensions []json.RawMessage
	lambda     int        // the place of our extension in extensions; -1: it is not there
	extension  jsonObject // it
	arguments  jsonObject // its Arguments
	meta       jsonObject
}

// readEntry takes an entry apart. It refuses what cannot be put together again without loss.
func readEntry(raw json.RawMessage) (entry, error) {
	e := entry{lambda: -1}
	if err := json.Unmarshal(raw, &e.fields); err != nil || e.fields == nil {
		return entry{}, errors.New("is not a JSON object")
	}
	for field, into := range map[string]any{"Protocol": &e.protocol, "EnvoyExtensions": &e.extensions, "Meta": &e.meta} {
		if value, ok := e.fields[field]; ok && json.Unmarshal(value, into) != nil {
			return entry{}, fmt.Errorf("has a field %s of another type than Consul's", field)
		}
	}
	for i, extension := range e.extensions {
		var fields jsonObject
		if json.Unmarshal(extension, &fields) != nil || fields.text("Name") != extensionName {
			continue
		}
		if e.lambda >= 0 {
			return entry{}, errTwoExtensions
		}
		e.lambda, e.extension = i, fields
		if value, ok := fields["Arguments"]; ok && json.Unmarshal(value, &e.arguments) != nil {
			return entry{}, errors.New("has an extension " + extensionName + " whose Arguments are no object")
		}
	}
	return e, nil
}

// arn returns the function that the entry's extension invokes; the zero ARN if there is none or it names no function.
func (e entry) arn() (function ARN, alias string) {
	for field := range e.arguments {
		if strings.EqualFold(field, "ARN") { // Consul decodes arguments so (mapstructure)
			if function, alias, err := ParseQualifiedARN(e.arguments.text(field)); err == nil {
				return function, alias
			}
		}
	}
	return ARN{}, ""
}

func (e entry) owner() string { return e.meta.text(metaOwner) }

// hold says whose an entry is.
type hold int

const (
	holdNone    hold = iota // there is no entry
	holdPlain               // one without a Lambda extension, and not marked by us
	holdOurs                // marked by us
	holdLegacy              // not marked, with a Lambda extension for a function of ours: the predecessor's, or made by hand
	holdForeign             // somebody else's
)

// hold says whose e is, seen from owner.
func (e entry) hold(owner Owner) hold {
	function, _ := e.arn()
	switch marked := e.owner(); {
	case marked != "" && marked != owner.String():
		return holdForeign
	case e.lambda >= 0 && function.Owner() != owner:
		return holdForeign
	case marked != "":
		return holdOurs
	case e.lambda >= 0:
		return holdLegacy
	}
	return holdPlain
}

// newEntry is an entry with nothing in it but its name.
func newEntry(k Key) entry {
	e := entry{lambda: -1, fields: jsonObject{"Kind": quoted("service-defaults"), "Name": quoted(k.Service.Name())}}
	if ns := k.Service.Namespace(); ns != "default" {
		e.fields["Namespace"] = quoted(ns)
	}
	if partition := k.Service.Partition(); partition != "default" {
		e.fields["Partition"] = quoted(partition)
	}
	return e
}

// made says how much of e is to be called ours, if our part is put into it. The predecessor wrote its entries whole; an unmarked one
// of a service that is ours already (adopted is false) was written by somebody in between.
func (e entry) made(h hold, adopted bool) string {
	if made := e.meta.text(metaMade); h == holdOurs && made != "" {
		return made
	}
	switch {
	case h == holdNone, h == holdLegacy && adopted:
		return madeEntry
	case e.protocol == "":
		return madeProtocol
	}
	return madeExtension
}

// merge puts r's part into the entry and returns all of it. Merging twice is merging once.
func (e entry) merge(r record, made string) json.RawMessage {
	extension, arguments := copied(e.extension), copied(e.arguments)
	for field := range arguments {
		for _, ours := range []string{"ARN", "PayloadPassthrough", "InvocationMode"} {
			if strings.EqualFold(field, ours) {
				delete(arguments, field)
			}
		}
	}
	arguments["ARN"] = quoted(r.arn())
	arguments["PayloadPassthrough"] = json.RawMessage(strconv.FormatBool(r.passthrough))
	arguments["InvocationMode"] = quoted(r.mode())
	extension["Name"], extension["Arguments"] = quoted(extensionName), marshal(arguments)

	extensions := append([]json.RawMessage(nil), e.extensions...)
	if e.lambda < 0 {
		extensions = append(extensions, marshal(extension))
	} else {
		extensions[e.lambda] = marshal(extension)
	}
	fields := copied(e.fields)
	fields["Protocol"], fields["EnvoyExtensions"] = quoted(protocolHTTP), marshal(extensions)
	return entry{fields: fields, meta: e.meta}.mark(r.function.Owner(), made)
}

// mark says in the entry whose it is, and returns all of it.
func (e entry) mark(owner Owner, made string) json.RawMessage {
	meta, fields := copied(e.meta), copied(e.fields)
	meta[metaOwner], meta[metaMade] = quoted(owner.String()), quoted(made)
	fields["Meta"] = marshal(meta)
	return marshal(fields)
}

// unmerge takes our part out of the entry. empty says that we made the entry and nothing is left in it: it may go.
func (e entry) unmerge(made string) (rest json.RawMessage, empty bool) {
	fields, meta := copied(e.fields), copied(e.meta)
	var extensions []json.RawMessage
	for i, extension := range e.extensions {
		if i != e.lambda {
			extensions = append(extensions, extension)
		}
	}
	if fields["EnvoyExtensions"] = marshal(extensions); len(extensions) == 0 {
		delete(fields, "EnvoyExtensions")
	}
	delete(meta, metaOwner)
	delete(meta, metaMade)
	if fields["Meta"] = marshal(meta); len(meta) == 0 {
		delete(fields, "Meta")
	}
	if made == madeEntry || made == madeProtocol {
		delete(fields, "Protocol")
	}
	empty = made == madeEntry
	for field, value := range fields {
		switch field {
		case "Kind", "Name", "Namespace", "Partition":
		default:
			empty = empty && saysNothing(value)
		}
	}
	return marshal(fields), empty
}
