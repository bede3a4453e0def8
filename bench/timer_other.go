// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package bench

import "time"

type timer struct{}

func newTimer() (*timer, error) { return new(timer), nil }

func (*timer) until(when time.Time) { time.Sleep(time.Until(when)) }
func (*timer) close()               {}
