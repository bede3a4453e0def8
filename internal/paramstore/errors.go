// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"errors"
)

// What happened, for errors.Is. Canceling a call's context is context.Canceled,
// and everything else that can go wrong, such as AWS's own failures (HTTP 5xx)
// and requests that it finds invalid, has no sentinel.
var (
	// ErrNotFound means that there is no such parameter.
	ErrNotFound = errors.New("not found")

	// ErrThrottled means that the account's rate is used up, or that somebody
	// else is writing the same parameter.
	ErrThrottled = errors.New("throttled")

	// ErrDenied means that the role may not do this to the parameter, or may not
	// use the parameter's key.
	ErrDenied = errors.New("access denied")

	// ErrInvalidKey means that the key is disabled, gone or of a wrong kind.
	ErrInvalidKey = errors.New("invalid key")

	// ErrCredentials means that there are no credentials, or expired or unknown
	// ones.
	ErrCredentials = errors.New("no valid credentials")

	// ErrTimeout means that a connection was made but no answer came in time,
	// or that no time was left to ask.
	ErrTimeout = errors.New("timed out")

	// ErrUnreachable means that no connection was made, or that it broke.
	ErrUnreachable = errors.New("unreachable")

	// ErrMalformed means that the answer was not Parameter Store's, or was cut
	// short.
	ErrMalformed = errors.New("malformed answer")

	// ErrTooLarge means that the value is above 8,192 bytes.
	ErrTooLarge = errors.New("too large")

	// ErrTier means that the tier asked for cannot hold this value, or cannot be
	// had back: a parameter never returns from Advanced to Standard.
	ErrTier = errors.New("refused by tier")
)

// kind is what happened, as finely as its text and its remedy need.
type kind int

const (
	kindOther kind = iota
	kindNotFound
	kindThrottled
	kindAccessDenied
	kindKMSDenied
	kindInvalidKey
	kindCredentials
	kindTimeout
	kindCanceled
	kindUnreachable
	kindMalformed
	kindTooLarge
	kindTier
)

var kinds = [...]struct {
	text     string
	sentinel error
}{
	kindOther:        {"failed", nil},
	kindNotFound:     {"not found", ErrNotFound},
	kindThrottled:    {"throttled", ErrThrottled},
	kindAccessDenied: {"access denied", ErrDenied},
	kindKMSDenied:    {"access to its key denied", ErrDenied},
	kindInvalidKey:   {"its key is not usable", ErrInvalidKey},
	kindCredentials:  {"no valid credentials", ErrCredentials},
	kindTimeout:      {"timed out", ErrTimeout},
	kindCanceled:     {"canceled", nil}, // its cause is context.Canceled
	kindUnreachable:  {"unreachable", ErrUnreachable},
	kindMalformed:    {"malformed answer", ErrMalformed},
	kindTooLarge:     {"too large", ErrTooLarge},
	kindTier:         {"refused by tier", ErrTier},
}

// String is a short lower-case phrase, "access denied".
func (k kind) String() string { return kinds[k].text }

// Error is a failed call: what happened is for errors.Is and the sentinels. It
// is safe to log: it holds nothing of a value.
type Error struct {
	// Remedy is what a person can do about it, in one clause. It may be empty.
	Remedy string

	op        string // "GetParameter"
	name      string // of the parameter, or the prefix of a listing
	kind      kind
	requestID string // AWS's name for the request, empty if none was answered
	code      string // AWS's error code, if it gave one
	err       error  // the cause; never an SDK error, which may carry the body
}

// Error is one line: operation, name, what happened, the cause, the remedy.
func (e *Error) Error() string {
	remedy := ""
	if e.Remedy != "" {
		remedy = "; " + e.Remedy
	}
	return "paramstore: " + e.happened() + remedy + e.request()
}

// Detail is Error without the package's name and the remedy, for who shows the
// remedy by itself.
func (e *Error) Detail() string { return e.happened() + e.request() }

func (e *Error) happened() string {
	text := e.op + " " + e.name + ": " + e.kind.String()
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	return text
}

func (e *Error) request() string {
	if e.requestID == "" {
		return ""
	}
	return " (request " + e.requestID + ")"
}

// Unwrap returns the cause: a network error, a context's error, or AWS's code
// and message.
func (e *Error) Unwrap() error { return e.err }

// Is matches the sentinel of the error's kind.
func (e *Error) Is(target error) bool {
	s := kinds[e.kind].sentinel
	return s != nil && target == s
}
