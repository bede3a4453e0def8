// SPDX-License-Identifier: MPL-2.0

// Package sock reads and writes sockets of package net by system calls that Go's scheduler is not told of.
//
// The scheduler is told of a system call because it may wait. The first one after a moment in which the process had nothing
// to do wakes the runtime's monitor thread (entersyscallWakeSysmon in runtime/proc.go), and in a proxy nearly every message
// comes after such a moment. With 1 KiB there and back on one connection, which is two reads and two writes, this thread took 12 of
// the 65 µs of CPU. A descriptor of package net does not wait, so that there is nothing to tell: it says EAGAIN, and the poller
// of package net does the waiting, as ever.
//
// What it costs: while such a call copies bytes in the kernel, some 0.1 ms for 256 KiB, its processor is not lent to another
// goroutine, as in any computation of that length.
//
// The package opens and closes nothing, and knows no addresses, timeouts or protocols: it is for the loops of packages proxy
// and tlsstate that move bytes.
package sock
