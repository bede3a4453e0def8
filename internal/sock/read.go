// SPDX-License-Identifier: MPL-2.0

package sock

import "syscall"

// Read reads once what has arrived at a descriptor that does not wait, into p, which must have room. It is to be called by
// syscall.RawConn.Read, whose function returns false on syscall.EAGAIN: nothing has arrived. At the end of the stream it returns
// 0 and no error; other errors are bare numbers (syscall.Errno).
func Read(fd uintptr, p []byte) (int, error) {
	for {
		if n, err := read(fd, p); err != syscall.EINTR {
			return n, err
		}
	}
}
