// SPDX-License-Identifier: MPL-2.0

package consulproc

import "errors"

var (
	// ErrNoBinary says that there is no Consul where it was looked for, and that nobody said there was.
	ErrNoBinary = errors.New("consul program not found")

	// ErrNotReady says that a program ended, or that its time ran out, before it could be used. The error's text has
	// what it said last.
	ErrNotReady = errors.New("not ready")

	// ErrClosed says that the server was closed.
	ErrClosed = errors.New("server closed")

	// errPortTaken says that somebody took a port between its choice and its use.
	errPortTaken = errors.New("port taken meanwhile")
)
