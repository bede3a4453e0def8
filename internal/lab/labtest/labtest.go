// SPDX-License-Identifier: MPL-2.0

package labtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// Race reports whether CONSUL_LAMBDA_E2E_RACE=1 asks for programs with the race detector, for [lab.BuildOptions].
func Race() bool { return os.Getenv("CONSUL_LAMBDA_E2E_RACE") == "1" }

// Main runs the tests, so many at a time (see [waittest.Parallel]), and demands that no goroutine outlives them.
func Main(m *testing.M, parallel int) {
	waittest.Parallel(parallel)
	goleak.VerifyTestMain(m)
}

// Programs returns what the options ask for, as [lab.Build] makes it. It fails the test if it cannot.
func Programs(t testing.TB, opts lab.BuildOptions) lab.Programs {
	t.Helper()
	p, err := built.get(opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// All returns whatever is shipped.
func All(t testing.TB) lab.Programs {
	t.Helper()
	p := Programs(t, lab.BuildOptions{})
	p.Registrator = Programs(t, lab.BuildOptions{Registrator: true}).Registrator
	return p
}

var built builds

// builds are the programs that this test process has asked for.
type builds struct {
	mu   sync.Mutex
	done map[lab.BuildOptions]build
}

type build struct {
	programs lab.Programs
	err      error
}

// get builds for the first who asks, and outlives that test: hence no context of its own.
func (b *builds) get(opts lab.BuildOptions) (lab.Programs, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if done, ok := b.done[opts]; ok {
		return done.programs, done.err
	}
	var made build
	made.programs, made.err = buildOnce(context.Background(), opts)
	if b.done == nil {
		b.done = make(map[lab.BuildOptions]build)
	}
	b.done[opts] = made
	return made.programs, made.err
}

// buildOnce builds what is not up to date, which the go command judges, while no other test process does: the second one finds it
// done, and does not write what the first one runs.
func buildOnce(ctx context.Context, opts lab.BuildOptions) (p lab.Programs, err error) {
	root, err := lab.ModuleRoot(ctx)
	if err != nil {
		return lab.Programs{}, err
	}
	dir := filepath.Join(root, "bin", "labtest", "shipped") // one folder for the programs that belong together
	if opts.Race {
		dir = filepath.Join(root, "bin", "labtest", "race")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return lab.Programs{}, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return lab.Programs{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // which gives the lock back, as the end of the process does
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return lab.Programs{}, fmt.Errorf("waiting for whoever builds in %s: %w", dir, err)
	}
	return lab.Build(ctx, dir, opts)
}
