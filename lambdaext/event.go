// SPDX-License-Identifier: MPL-2.0

package lambdaext

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// EventType names an event. The API may send types that this package does not know.
type EventType string

// The events that an extension can register for.
const (
	Invoke   EventType = "INVOKE"   // an invocation has begun; registering for it makes every invocation wait for the extension
	Shutdown EventType = "SHUTDOWN" // the sandbox ends; the runtime has been ended already
)

// ShutdownReason says why a sandbox ends. A reason that this package does not know is kept as it was given.
type ShutdownReason string

// The documented reasons. The reference writes them in capitals and the platform's own code in lower case,
// so a reason is recognised in any case and given in this one.
const (
	Spindown ShutdownReason = "spindown" // the sandbox is no longer needed
	Timeout  ShutdownReason = "timeout"  // an invocation ran into its time limit
	Failure  ShutdownReason = "failure"  // the runtime or an extension failed
)

// Event is what Next returns. The zero Event stands for no event. Fields that an event does not have,
// or that came with a value that makes no sense, are zero: only the type is needed to act on an event.
type Event struct {
	Type EventType // never empty
	// ShutdownReason is empty for every type but Shutdown.
	ShutdownReason ShutdownReason
	// Deadline is when the invocation or the sandbox ends, to the millisecond, by the wall clock.
	// It is zero if none was given, or if it was not a number, before 1970 or after the year 9999.
	Deadline time.Time
	// RequestID and InvokedFunctionARN describe an invocation.
	RequestID          string
	InvokedFunctionARN string
}

// maxDeadlineMS is the last millisecond of the year 9999, the last that RFC 3339 can write. It is far below 2^53,
// so that every whole number up to it is exact as a float64.
const maxDeadlineMS = 253402300799999

// decodeEvent reads the body of an answer to Next.
func decodeEvent(body []byte) (Event, error) {
	var answer struct {
		EventType          EventType      `json:"eventType"`
		ShutdownReason     ShutdownReason `json:"shutdownReason"`
		DeadlineMS         float64        `json:"deadlineMs"`
		RequestID          string         `json:"requestId"`
		InvokedFunctionARN string         `json:"invokedFunctionArn"`
	}
	if err := decodeObject(body, &answer); err != nil {
		return Event{}, fmt.Errorf("reading the event %.200q: %w", body, err)
	}
	if answer.EventType == "" {
		return Event{}, fmt.Errorf("the event %.200q has no type", body)
	}
	event := Event{Type: answer.EventType, RequestID: answer.RequestID, InvokedFunctionARN: answer.InvokedFunctionARN}
	if event.Type == Shutdown {
		event.ShutdownReason = knownReason(answer.ShutdownReason)
	}
	if ms := answer.DeadlineMS; ms >= 1 && ms <= maxDeadlineMS {
		event.Deadline = time.UnixMilli(int64(ms))
	}
	return event, nil
}

// knownReason gives the documented reasons in one case.
func knownReason(r ShutdownReason) ShutdownReason {
	for _, known := range [...]ShutdownReason{Spindown, Timeout, Failure} {
		if strings.EqualFold(string(r), string(known)) {
			return known
		}
	}
	return r
}

// decodeObject reads a JSON object into the struct that v points to. A member of the wrong type leaves its field zero
// and the others are still read, which is what encoding/json does before it reports the mismatch: an extension that
// cannot read a detail of SHUTDOWN must still shut down.
func decodeObject(body []byte, v any) error {
	err := json.Unmarshal(body, v)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil
	}
	return err
}
