// SPDX-License-Identifier: MPL-2.0

package bench

import "errors"

// errUnsupported: the machine does not tell what is to be measured.
var errUnsupported = errors.New("bench: measuring needs Linux: /proc, process CPU clocks and timerfd")

// errNoCgroup: CPU shares cannot be set here.
var errNoCgroup = errors.New("no cpu cgroup can be made here")

// errBroken: a system could not be started in this round, and that was told.
var errBroken = errors.New("the system did not start")

// errNoFigures: what was read is JSON, and not a result.
var errNoFigures = errors.New("bench: reading a result: there is no figure in it; want a file that consul-lambda bench --json has written")
