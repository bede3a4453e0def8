// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const supported = true

const (
	signalStop     = unix.SIGSTOP
	signalContinue = unix.SIGCONT
)

// processAttributes gives each process its own group, so that a freeze and a
// kill reach its children, and ties its life to ours (see spawner). Children of
// a group leader are ended with it by the sandbox, but if this program itself is
// killed only the leaders die with it.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func signalGroup(pgid int, sig syscall.Signal) error { return unix.Kill(-pgid, sig) }

// awaitExit returns when the child has ended, and leaves it to be waited for.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// stopped reports whether no thread of the process can run: each is stopped or
// has ended. A signal reaches threads one after the other, so the state of the
// first alone does not say it.
func stopped(pid int) (bool, error) {
	tasks := filepath.Join("/proc", strconv.Itoa(pid), "task")
	entries, err := os.ReadDir(tasks)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		stat, err := os.ReadFile(filepath.Join(tasks, entry.Name(), "stat"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return false, err
		}
		// proc(5): "pid (comm) state …", and comm may hold anything.
		state := bytes.TrimLeft(stat[bytes.LastIndexByte(stat, ')')+1:], " ")
		if len(state) == 0 || !bytes.ContainsRune([]byte("TZX"), rune(state[0])) {
			return false, nil
		}
	}
	return true, nil
}
