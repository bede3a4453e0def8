// SPDX-License-Identifier: MPL-2.0

package main

import (
	"io"
	"os"
)

// painter colours a text.
type painter func(color, text string) string

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// painterFor colours if w is a terminal and NO_COLOR is not set (no-color.org).
func painterFor(w io.Writer) painter {
	if o, ok := w.(*output); ok {
		w = o.w
	}
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return paint
		}
	}
	return func(_, text string) string { return text }
}

func paint(color, text string) string {
	if text == "" {
		return ""
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}
