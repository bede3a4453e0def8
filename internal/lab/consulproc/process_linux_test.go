// SPDX-License-Identifier: MPL-2.0

package consulproc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

func TestProgramsDieWithTheirParent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{parentVariable + "=" + dir, consulproc.BinaryVariable + "=" + binary(t)}
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started\n" {
		t.Fatalf("the parent said %q: %v", line, err)
	}
	children := childrenOf(t, cmd.Process.Pid)
	if len(children) != 2 {
		t.Fatalf("the parent has children %v, want a server and a proxy", children)
	}
	ok(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	waittest.NoError(t, func(context.Context) error {
		for _, pid := range children {
			if state(pid) != 'Z' && state(pid) != 0 {
				return fmt.Errorf("process %d outlived its parent", pid)
			}
		}
		return nil
	})
}

// stat returns the fields of /proc/PID/stat from the state on; nil if there is no such process.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// proc(5): "pid (comm) state ppid …", and comm may hold anything.
	return strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
}

func state(pid int) byte {
	fields := stat(pid)
	if len(fields) == 0 {
		return 0
	}
	return fields[0][0]
}

func childrenOf(t testing.TB, parent int) (children []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	ok(t, err)
	for _, entry := range entries {
		var pid int
		if _, err := fmt.Sscan(entry.Name(), &pid); err != nil {
			continue
		}
		if fields := stat(pid); len(fields) > 1 && fields[1] == fmt.Sprint(parent) {
			children = append(children, pid)
		}
	}
	return children
}

func TestEverySocketThatListensIsOnLoopback(t *testing.T) {
	t.Parallel()
	server := start(t, consulproc.Config{ACL: true})
	ours := socketsOf(t, server.PID())
	count := 0
	// proc_net_tcp: local address in the second field, state in the fourth (0A is LISTEN, 07 an unconnected datagram
	// socket), inode in the tenth. 0100007F is 127.0.0.1.
	for _, table := range []struct{ name, state string }{{"tcp", "0A"}, {"tcp6", "0A"}, {"udp", "07"}, {"udp6", "07"}} {
		text, err := os.ReadFile("/proc/net/" + table.name)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		ok(t, err)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != table.state || !slices.Contains(ours, "socket:["+f[9]+"]") {
				continue
			}
			count++
			if !strings.HasPrefix(f[1], "0100007F:") {
				t.Errorf("%s socket on %s", table.name, f[1])
			}
		}
	}
	// HTTP, gRPC, RPC, and gossip twice, in TCP and UDP.
	if count != 7 {
		t.Errorf("the server listens on %d sockets, want 7", count)
	}
}

func socketsOf(t testing.TB, pid int) (sockets []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	ok(t, err)
	for _, entry := range entries {
		if link, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			sockets = append(sockets, link)
		}
	}
	return sockets
}

// A frozen server is one that answers nobody, and is ended all the same.
func TestAFrozenServerCanBeClosed(t *testing.T) {
	t.Parallel()
	server := start(t, consulproc.Config{})
	ok(t, unix.Kill(server.PID(), unix.SIGSTOP))
	ok(t, server.Close())
}
