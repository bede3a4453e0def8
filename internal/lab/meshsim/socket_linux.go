// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dropIncoming makes the kernel discard every packet that arrives for a TCP
// socket before TCP sees it: a socket filter that keeps none of their bytes
// (socket(7), SO_ATTACH_FILTER). Nothing is acknowledged any more, no FIN or RST is
// noticed; on a listener, no connection is answered. It needs no privilege.
func dropIncoming(c syscall.Conn, drop bool) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if !drop {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
			return
		}
		prog := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
	})
	if err == nil {
		err = set
	}
	if err != nil {
		return fmt.Errorf("meshsim: setting socket filter: %w", err)
	}
	return nil
}

// sinceReceived returns how long ago c last received data, by the kernel's
// account, which also knows about spliced bytes. ok is false if it does not say.
func sinceReceived(c *net.TCPConn) (d time.Duration, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			d, ok = time.Duration(info.Last_data_recv)*time.Millisecond, true
		}
	})
	return d, ok
}

// isClosed reports whether c is no connection any more: it was closed here, it
// was reset, or both sides have ended it.
func isClosed(c *net.TCPConn) bool {
	const tcpClose = 7 // TCP_CLOSE of the kernel's include/net/tcp_states.h
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	ended := true
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		ended = err == nil && info.State == tcpClose
	})
	return err != nil || ended
}
