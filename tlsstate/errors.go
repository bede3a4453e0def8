// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"errors"
	"strings"
)

// Errors that a caller may tell apart with errors.Is.
var (
	// ErrNoCredentials: no document has been usable so far, or the last good leaf has expired and no newer one came.
	ErrNoCredentials = errors.New("no valid credentials")

	// ErrIdentity: the peer proved an identity that is not the upstream's, or none.
	ErrIdentity = errors.New("peer is not the upstream")

	// ErrTruncated: the stream ended without close_notify. What was read before is what arrived, not what was sent.
	ErrTruncated = errors.New("stream cut without close_notify")

	// ErrPeerIncomplete: the credential document does not hold what a peered upstream needs.
	ErrPeerIncomplete = errors.New("peering is not described completely")

	// ErrNoGateway: no mesh gateway could be reached.
	ErrNoGateway = errors.New("no mesh gateway could be reached")
)

// Errors of this package's own: why something under way was ended, and what crypto/tls is told.
var (
	// errThawed ends an attempt that was under way in a freeze: its connection is likely dead, and its deadline means nothing.
	errThawed = errors.New("interrupted by a freeze")

	// errLost is why an attempt of a race was cancelled: another one won.
	errLost = errors.New("another attempt succeeded")

	// errPanic is a defect that a dial tripped over; the value and the stack follow it.
	errPanic = errors.New("panic while dialling")

	// errEarly ends a spare whose server streams before it was asked anything.
	errEarly = errors.New("more arrived on a spare connection than a server's greeting")

	// errWouldWait tells crypto/tls, through net.Error, that the read may be repeated.
	errWouldWait error = wouldWait{}
)

type wouldWait struct{}

func (wouldWait) Error() string   { return "no bytes yet" }
func (wouldWait) Timeout() bool   { return true }
func (wouldWait) Temporary() bool { return true }

// joined is errors.Join in one line, as a log line and the error of a connection have to be.
type joined []error

// join returns nil for none, the error itself for one.
func join(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return joined(errs)
}

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }
