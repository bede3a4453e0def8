// SPDX-License-Identifier: MPL-2.0

// Package sock reads and writes sockets of package net by system calls that Go's scheduler is not told of.
//
// The scheduler is told of a system call because it may wait. The first one after a moment in which the process had nothing
// to do wakes the runtime's monitor thread (entersyscallWakeSysmon in runtime/proc.go), and in a proxy nearly every message
// comes after such a moment. With 1 KiB there and back on one connection, which is two reads and two writes, this thread took 12 of
// the 65 µs of CPU. A descriptor of package net does not wait, so that there is nothing to tell: it says EAGAIN, and the poller
// of package net does the waiting, as ever. (It would wait after net.TCPConn.File, which nobody may call here.)
//
// What it costs: during such a call its processor is not lent to another goroutine, and the thread that sleeps is also the one
// that interrupts a goroutine after 10 ms. So it is for what is short: reads, of some 0.1 ms for 256 KiB, and writes up to maxHeld.
//
// The package opens and closes nothing, and knows no addresses, timeouts or protocols: it is for the loops of packages proxy
// and tlsstate that move bytes.
package sock
