// SPDX-License-Identifier: MPL-2.0

package labtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// Race reports whether CONSUL_LAMBDA_E2E_RACE=1 asks for programs with the race detector, for [lab.BuildOptions].
func Race() bool { return os.Getenv("CONSUL_LAMBDA_E2E_RACE") == "1" }

// Main runs the tests, so many at a time (see [waittest.Parallel]), demands that no goroutine outlives them, removes the programs and
// exits.
func Main(m *testing.M, parallel int) {
	waittest.Parallel(parallel)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		Remove()
		os.Exit(code)
	}))
}

// Programs builds what the options ask for, as [lab.Build] does, or returns what was built with them before. It fails the test if it
// cannot. [Main], or who calls [Remove], owns the files.
func Programs(t testing.TB, opts lab.BuildOptions) lab.Programs {
	t.Helper()
	p, err := built.get(opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// All builds whatever is shipped.
func All(t testing.TB) lab.Programs {
	t.Helper()
	p := Programs(t, lab.BuildOptions{})
	p.Registrator = Programs(t, lab.BuildOptions{Registrator: true}).Registrator
	return p
}

// Remove deletes what was built, at the end of the test process. [Main] calls it.
func Remove() { built.remove() }

var built builds

// builds are the programs of the test process.
type builds struct {
	mu   sync.Mutex // held while building: one build at a time has both cores
	dir  string     // of all of them; empty before the first
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
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "consul-lambda-test-")
		if err != nil {
			return lab.Programs{}, err
		}
		b.dir, b.done = dir, make(map[lab.BuildOptions]build)
	}
	dir := filepath.Join(b.dir, "shipped") // one folder for the programs that belong together
	if opts.Race {
		dir = filepath.Join(b.dir, "race")
	}
	var made build
	if made.err = os.MkdirAll(dir, 0o700); made.err == nil {
		made.programs, made.err = lab.Build(context.Background(), dir, opts)
	}
	b.done[opts] = made
	return made.programs, made.err
}

func (b *builds) remove() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}
