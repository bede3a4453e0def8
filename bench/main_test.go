// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// burnVariable makes the test binary a process that burns CPU time instead.
const burnVariable = "CONSUL_LAMBDA_BENCH_BURN"

func TestMain(m *testing.M) {
	if d, err := time.ParseDuration(os.Getenv(burnVariable)); err == nil {
		burn(d)
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(baselineDir)
		os.Exit(code)
	}))
}

// burn uses about d of CPU time on a thread that ends, and as much again on one that does not; then says what the process
// has used by its own account, and waits to be told to exit.
func burn(d time.Duration) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		spin(d)
	}()
	<-ended
	spin(d)
	fmt.Println(ownCPU())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func spin(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
	}
}

// burnt starts a process that has used CPU time, waits until it has done so, and returns what it says it used.
func burnt(t *testing.T, d time.Duration) (pid int, used time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), burnVariable+"="+d.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, time.Duration(ns)
}

// buildBaseline returns the in-tree baseline, which the first who asks builds.
func buildBaseline(t *testing.T) string {
	t.Helper()
	file, err := baseline()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// baselineDir is removed by TestMain; empty if nothing was built.
var baselineDir string

var baseline = sync.OnceValues(func() (file string, err error) {
	if baselineDir, err = os.MkdirTemp("", "bench-baseline-"); err != nil {
		return "", err
	}
	file = filepath.Join(baselineDir, "bench-baseline")
	if out, err := exec.Command("go", "build", "-o", file, "./baseline").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the baseline: %w\n%s", err, out)
	}
	return file, nil
})
