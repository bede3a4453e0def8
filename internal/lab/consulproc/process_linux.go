// SPDX-License-Identifier: MPL-2.0

package consulproc

import "syscall"

// processAttributes ties the child's life to ours (see process.run), and keeps an interrupt at the terminal from
// reaching it before its owner has decided what to end first.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
