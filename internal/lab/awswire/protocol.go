// SPDX-License-Identifier: MPL-2.0

package awswire

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"net/http"
)

// A Protocol is one of the ways in which AWS services speak HTTP. The zero value is JSON11.
// https://smithy.io/2.0/aws/protocols/ has them all.
type Protocol int

const (
	// JSON11 is AWS JSON 1.1: POST /, the operation in X-Amz-Target. SSM and the tagging API.
	JSON11 Protocol = iota
	// RESTJSON is a method and a path for each operation, JSON bodies. Lambda.
	RESTJSON
	// Query is a form in, XML out. STS.
	Query
)

// A Failure is an error answer. A nil *Failure is success.
type Failure struct {
	// Status is the HTTP status. Zero: 400.
	Status int
	// Namespace goes before the code in the body of JSON11, "com.amazonaws.ssm". Empty: the code stands alone.
	Namespace string
	// Code is what clients tell errors apart by, "ThrottlingException".
	Code string
	// Message may be empty: JSON11 then has no such member.
	Message string
	// Reason is a member of some of Lambda's errors, RESTJSON only.
	Reason string
}

// Common is an error of the layer in front of all services. It takes the code's name and status in JSON11, where the
// status is always 400, and translates them for the others.
func (p Protocol) Common(code, message string) *Failure {
	switch p {
	case RESTJSON:
		return &Failure{Status: http.StatusForbidden, Code: code, Message: message}
	case Query:
		return &Failure{Status: http.StatusForbidden, Code: cmp.Or(queryCodes[code], code), Message: message}
	default:
		return &Failure{Namespace: "com.amazon.coral.service", Code: code, Message: message}
	}
}

// queryCodes are the names that the Query protocol has for common errors.
var queryCodes = map[string]string{
	"AccessDeniedException":               "AccessDenied",
	"ExpiredTokenException":               "ExpiredToken",
	"InvalidSignatureException":           "SignatureDoesNotMatch",
	"MissingAuthenticationTokenException": "MissingAuthenticationToken",
	"UnrecognizedClientException":         "InvalidClientTokenId",
}

// response is an answer before it is written, so that a fault can write something else.
type response struct {
	status      int
	contentType string
	errorType   string // the header that repeats an error's code
	requestID   string
	body        []byte
}

// success encodes v; nil is an answer without a body. Status 0 means 200, or 204 without a body.
func (p Protocol) success(v any, status int) response {
	r := response{status: status, contentType: p.contentType(), requestID: RequestID()}
	switch {
	case v == nil:
		r.status = cmp.Or(status, http.StatusNoContent)
		r.contentType = ""
		return r
	case p == Query:
		r.body = marshalXML(v)
	default:
		r.body = marshal(v)
	}
	r.status = cmp.Or(status, http.StatusOK)
	return r
}

// failure encodes f: with the code in a header and in the body, as AWS does it, but for Query, which has only a body.
func (p Protocol) failure(f *Failure) response {
	r := response{
		status: cmp.Or(f.Status, http.StatusBadRequest), contentType: p.contentType(), errorType: f.Code, requestID: RequestID(),
	}
	blame := "User"
	if r.status >= http.StatusInternalServerError {
		blame = "Service"
	}
	switch p {
	case RESTJSON:
		r.body = marshal(struct {
			Reason  string `json:",omitempty"`
			Type    string
			Message string `json:"message"`
		}{f.Reason, blame, f.Message})
	case Query:
		if blame == "User" {
			blame = "Sender"
		} else {
			blame = "Receiver"
		}
		r.errorType = ""
		r.body = marshalXML(struct {
			XMLName   xml.Name `xml:"ErrorResponse"`
			Type      string   `xml:"Error>Type"`
			Code      string   `xml:"Error>Code"`
			Message   string   `xml:"Error>Message"`
			RequestID string   `xml:"RequestId"`
		}{xml.Name{}, blame, f.Code, f.Message, r.requestID})
	default:
		typ := f.Code
		if f.Namespace != "" {
			typ = f.Namespace + "#" + f.Code
		}
		r.body = marshal(struct {
			Type    string `json:"__type"`
			Message string `json:"message,omitempty"`
		}{typ, f.Message})
	}
	return r
}

func (p Protocol) contentType() string {
	switch p {
	case RESTJSON:
		return "application/json"
	case Query:
		return "text/xml"
	default:
		return "application/x-amz-json-1.1"
	}
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own structs of strings and numbers come here
	}
	return b
}

func marshalXML(v any) []byte {
	b, err := xml.Marshal(v)
	if err != nil {
		panic(err) // as above
	}
	return b
}

// RequestID is a new random UUID, as AWS gives requests, events and revisions.
func RequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
