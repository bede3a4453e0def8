// SPDX-License-Identifier: MPL-2.0

package lambdaext

import (
	"net"
	"syscall"
	"testing"
)

// In a freeze the kernel's probes go unanswered, and would end the connection that Next waits on.
func TestConnectionsSendNoKeepalives(t *testing.T) {
	t.Parallel()
	conn, err := newTransport().DialContext(t.Context(), "tcp", newAPI(t).addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var on int
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		on, optErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
	}); err != nil || optErr != nil {
		t.Fatal(err, optErr)
	}
	if on != 0 {
		t.Error("SO_KEEPALIVE is on")
	}
}
