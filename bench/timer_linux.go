// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// timer waits exactly. The timers of package time are served by the poller, which sleeps whole milliseconds when nothing
// else happens: too coarse for half of a round trip of 1 ms. A timerfd is an event that the poller waits for.
type timer struct {
	fd   int
	file *os.File
}

func newTimer() (*timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	return &timer{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}, nil
}

// until returns at t. One goroutine at a time.
func (t *timer) until(when time.Time) {
	wait := time.Until(when)
	if wait <= 0 {
		return
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}
	if unix.TimerfdSettime(t.fd, 0, &spec, nil) != nil {
		time.Sleep(wait)
		return
	}
	var expirations [8]byte
	_, _ = t.file.Read(expirations[:])
}

func (t *timer) close() { _ = t.file.Close() }
