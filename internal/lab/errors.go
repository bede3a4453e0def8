// SPDX-License-Identifier: MPL-2.0

package lab

import "errors"

// ErrNoPrograms says that a program is not where it was looked for.
var ErrNoPrograms = errors.New("program not found")
