// SPDX-License-Identifier: MPL-2.0

//go:build !linux

package consulproc

import "syscall"

// processAttributes are the defaults: only Linux ends a child with its parent.
func processAttributes() *syscall.SysProcAttr { return nil }
