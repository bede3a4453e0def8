// SPDX-License-Identifier: MPL-2.0

package lambdaext

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// The refusals that a caller can act on, for errors.Is on the error of any call.
var (
	// ErrContainer is an answer of status 500. The API's reference calls it not recoverable and asks the extension to exit promptly.
	ErrContainer = errors.New("lambdaext: the sandbox failed, exit promptly")
	// ErrState is a call that does not fit the extension's state: a second registration, an init error after the first Next.
	ErrState = errors.New("lambdaext: call not allowed in this state")
	// ErrEventType is a registration for an event that this kind of extension or function does not get, as INVOKE on Managed Instances.
	ErrEventType = errors.New("lambdaext: event type not allowed")
)

// The error types behind the sentinels. They come with status 403, as every refusal but a malformed request and a failed sandbox.
const (
	typeState     = "Extension.InvalidExtensionState"
	typeEventType = "Extension.InvalidEventType"
)

// maxErrorText bounds each of the texts that an APIError carries, in bytes. The API's own messages are one line;
// what something else answers in its place may be a whole page, of which a log line needs the beginning.
const maxErrorText = 1 << 10

// APIError is an answer of the API, or of something in its place, that is not a success.
type APIError struct {
	Op      string // the call: register, next, init error or exit error
	Status  int    // the HTTP status, never 2xx
	Type    string // the API's errorType, as in Extension.InvalidExtensionState; empty if the answer had none
	Message string // the API's errorMessage, or the beginning of an answer that was not the API's; may be empty
}

// Error says which call was refused and why, on one line.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lambdaext: %s: answered with status %d", e.Op, e.Status)
	if e.Type != "" {
		fmt.Fprintf(&b, ", %q", e.Type)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ", %q", e.Message)
	}
	return b.String()
}

// Is reports whether the refusal is the one that target stands for.
func (e *APIError) Is(target error) bool {
	switch target {
	case ErrContainer:
		return e.Status == http.StatusInternalServerError
	case ErrState:
		return e.Type == typeState
	case ErrEventType:
		return e.Type == typeEventType
	}
	return false
}

// newAPIError reads the body of a refusal, which may be empty, cut off, or not JSON at all.
func newAPIError(op string, status int, body []byte) *APIError {
	var answer struct {
		ErrorMessage string `json:"errorMessage"`
		ErrorType    string `json:"errorType"`
	}
	if decodeObject(body, &answer) != nil || answer.ErrorMessage == "" && answer.ErrorType == "" {
		answer.ErrorMessage = strings.TrimSpace(string(body))
	}
	return &APIError{Op: op, Status: status, Type: clip(answer.ErrorType), Message: clip(answer.ErrorMessage)}
}

// clip returns the beginning of s as valid UTF-8 of at most maxErrorText bytes.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxErrorText)], "")
}
