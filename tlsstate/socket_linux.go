// SPDX-License-Identifier: MPL-2.0

package tlsstate

import "golang.org/x/sys/unix"

// tcpEstablished is TCP_ESTABLISHED of the kernel's include/net/tcp_states.h: neither side has ended or reset.
const tcpEstablished = 1

func socketClosed(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State != tcpEstablished
}
