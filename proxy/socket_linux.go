// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// What the kernel knows of a leg's socket. Each of these returns zero for a connection that has none.

// sendQueue returns how many bytes were written and not yet acknowledged by the peer's kernel (tcp(7), SIOCOUTQ); none
// after a reset, which the kernel itself does not say.
func sendQueue(c net.Conn) (n int) {
	control(c, func(fd int) { n, _ = unix.IoctlGetInt(fd, unix.SIOCOUTQ) })
	if n > 0 && tcpStateOf(c).closed {
		return 0
	}
	return n
}

// receiveQueue returns how many bytes have arrived and were not yet read (tcp(7), SIOCINQ).
func receiveQueue(c net.Conn) (n int) {
	control(c, func(fd int) { n, _ = unix.IoctlGetInt(fd, unix.SIOCINQ) })
	return n
}

// tcpClose is TCP_CLOSE of the kernel's include/net/tcp_states.h.
const tcpClose = 7

// tcpState is the part of TCP_INFO that the sweep looks at.
type tcpState struct {
	received uint64 // bytes, ever
	acked    uint64 // bytes, ever, that the peer acknowledged
	inFlight bool   // segments were sent and not yet acknowledged
	probing  bool   // the peer's window is closed, and a probe of it was not answered yet
	answers  uint64 // segments that arrived and had no data, ever: acknowledgements, of new bytes or of old ones
	closed   bool   // no connection any more, and so reset unless both sides have ended
}

func tcpStateOf(c net.Conn) (s tcpState) {
	control(c, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			s = tcpState{received: info.Bytes_received, acked: info.Bytes_acked, inFlight: info.Unacked > 0, probing: info.Probes > 0, answers: uint64(info.Segs_in - info.Data_segs_in), closed: info.State == tcpClose}
		}
	})
	return s
}

func control(c net.Conn, f func(fd int)) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { f(int(fd)) })
}
