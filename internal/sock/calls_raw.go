// SPDX-License-Identifier: MPL-2.0

//go:build linux && !race

package sock

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// read(2) and write(2), and not recv(2) and send(2), whose flags could rule out any waiting: the kernel counts only the former
// in /proc/PID/io, by which the number of calls is held.

func read(fd uintptr, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func write(fd uintptr, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
