// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// output is standard output that remembers its first failure, so that commands may write without looking: what a full disk has
// swallowed was not said, and run makes an error of it. It is used by one goroutine.
type output struct {
	w         io.Writer
	abandoned func() // told when nobody reads it any more; nil: nobody is
	err       error
}

// Write writes, also after an earlier write has failed: a story is told to its end, and what was started is ended in order.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if o.err == nil && err != nil {
		o.err = fmt.Errorf("writing to standard output: %w", err)
	}
	if o.abandoned != nil && errors.Is(err, syscall.EPIPE) {
		o.abandoned()
	}
	return n, err
}
