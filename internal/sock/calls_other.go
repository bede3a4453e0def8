// SPDX-License-Identifier: MPL-2.0

//go:build !linux || race

package sock

import "syscall"

// Other systems are for laptops: there the ordinary calls will do. And the race detector knows of these that what happened before
// bytes were written did so before they are read.

func read(fd uintptr, p []byte) (int, error) {
	n, err := syscall.Read(int(fd), p)
	return max(n, 0), err
}

func write(fd uintptr, p []byte) (int, error) {
	n, err := syscall.Write(int(fd), p)
	return max(n, 0), err
}
