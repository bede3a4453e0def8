// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"io"
)

// output is standard output that remembers its first failure, so that commands may write without looking: what a full disk has
// swallowed was not said, and run makes an error of it. It is used by one goroutine.
type output struct {
	w   io.Writer
	err error
}

// Write writes, also after an earlier write has failed: a story is told to its end, and what was started is ended in order.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if o.err == nil && err != nil {
		o.err = fmt.Errorf("writing to standard output: %w", err)
	}
	return n, err
}
