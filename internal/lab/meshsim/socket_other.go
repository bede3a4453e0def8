// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package meshsim

import (
	"net"
	"syscall"
	"time"
)

// dropIncoming is Linux only: elsewhere packets go on being acknowledged.
func dropIncoming(syscall.Conn, bool) error { return ErrUnsupported }

// sinceReceived is Linux only.
func sinceReceived(*net.TCPConn) (time.Duration, bool) { return 0, false }

// isClosed does not know.
func isClosed(*net.TCPConn) bool { return false }
