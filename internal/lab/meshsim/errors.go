// SPDX-License-Identifier: MPL-2.0

package meshsim

import "errors"

var (
	// ErrClosed is returned by a method that needs a component which was closed.
	ErrClosed = errors.New("meshsim: closed")

	// errNotClientHello reports bytes that cannot begin a TLS ClientHello, or a
	// ClientHello that breaks its own lengths.
	errNotClientHello = errors.New("meshsim: not a TLS ClientHello")

	// errHelloTooLong reports a ClientHello beyond [maxClientHello].
	errHelloTooLong = errors.New("meshsim: ClientHello too long")

	// ErrUnsupported reports a fault that this operating system cannot inject.
	ErrUnsupported = errors.New("meshsim: not supported on this system")
)
