// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"errors"
	"strings"
)

// Sentinels for errors.Is. ErrDenied covers the parameter and its key.
var (
	ErrNotFound    = errors.New("not found")
	ErrThrottled   = errors.New("throttled")
	ErrDenied      = errors.New("access denied")
	ErrInvalidKey  = errors.New("invalid key")
	ErrCredentials = errors.New("no valid credentials")
	ErrTimeout     = errors.New("timed out")
	ErrUnreachable = errors.New("unreachable")
	ErrMalformed   = errors.New("malformed answer")
	ErrTooLarge    = errors.New("too large")
	ErrTier        = errors.New("refused by tier")
)

// Kind classifies an Error. The zero value is KindOther.
type Kind int

const (
	// KindOther is everything else: AWS's own failures (HTTP 5xx) and requests
	// that it finds invalid, such as a name with characters it does not allow.
	KindOther Kind = iota
	// KindNotFound means that there is no such parameter.
	KindNotFound
	// KindThrottled means that the account's rate is used up, or that somebody
	// else is writing the same parameter.
	KindThrottled
	// KindAccessDenied means that the role may not do this to the parameter.
	KindAccessDenied
	// KindKMSDenied means that the role may not use the parameter's key.
	KindKMSDenied
	// KindInvalidKey means that the key is disabled, gone or of a wrong kind.
	KindInvalidKey
	// KindCredentials means that there are no credentials, or expired or
	// unknown ones.
	KindCredentials
	// KindTimeout means that a connection was made but no answer came in time.
	KindTimeout
	// KindCanceled means that the caller canceled its context.
	KindCanceled
	// KindUnreachable means that no connection was made, or that it broke.
	KindUnreachable
	// KindMalformed means that the answer was not Parameter Store's, or was
	// cut short.
	KindMalformed
	// KindTooLarge means that the value is above 8,192 bytes.
	KindTooLarge
	// KindTier means that the tier asked for cannot hold this value, or cannot
	// be had back: a parameter never returns from Advanced to Standard.
	KindTier
)

var kinds = [...]struct {
	text     string
	sentinel error
}{
	KindOther:        {"failed", nil},
	KindNotFound:     {"not found", ErrNotFound},
	KindThrottled:    {"throttled", ErrThrottled},
	KindAccessDenied: {"access denied", ErrDenied},
	KindKMSDenied:    {"access to its key denied", ErrDenied},
	KindInvalidKey:   {"its key is not usable", ErrInvalidKey},
	KindCredentials:  {"no valid credentials", ErrCredentials},
	KindTimeout:      {"timed out", ErrTimeout},
	KindCanceled:     {"canceled", nil},
	KindUnreachable:  {"unreachable", ErrUnreachable},
	KindMalformed:    {"malformed answer", ErrMalformed},
	KindTooLarge:     {"too large", ErrTooLarge},
	KindTier:         {"refused by tier", ErrTier},
}

// String is a short lower-case phrase, "access denied".
func (k Kind) String() string { return kinds[k.known()].text }

// known is k, or KindOther if there is no such kind.
func (k Kind) known() Kind {
	if k < 0 || int(k) >= len(kinds) {
		return KindOther
	}
	return k
}

// Error is a failed call. It is safe to log: it holds nothing of a value.
type Error struct {
	// Op is the operation, "GetParameter".
	Op string
	// Name is the parameter, or the prefix of a listing.
	Name string
	// Kind is what happened.
	Kind Kind
	// Remedy is what a person can do about it, in one clause. It may be empty.
	Remedy string
	// RequestID is AWS's name for the request, empty if none was answered.
	RequestID string

	code string // AWS's error code, if it gave one
	err  error  // the cause; never an SDK error, which may carry the body
}

// Error is one line: operation, name, what happened, the cause, the remedy.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("paramstore: " + e.Op + " " + e.Name + ": " + e.Kind.String())
	if e.err != nil {
		b.WriteString(": " + e.err.Error())
	}
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

// Unwrap returns the cause: a network error, a context's error, or AWS's code
// and message.
func (e *Error) Unwrap() error { return e.err }

// Is matches the sentinel of the error's kind.
func (e *Error) Is(target error) bool {
	s := kinds[e.Kind.known()].sentinel
	return s != nil && target == s
}
