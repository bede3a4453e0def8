// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"flag"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab"
)

func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		_ = flag.Set("test.parallel", "40") // a row of the matrix waits most of the time
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
		os.Exit(code)
	}))
}

// built are the programs, made once for the test process.
var built struct {
	once     sync.Once
	dir      string
	programs lab.Programs
	err      error
}

func programs(t testing.TB) lab.Programs {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "consul-lambda-soak-"); built.err == nil {
			built.programs, built.err = lab.Build(context.Background(), built.dir, lab.BuildOptions{})
		}
	})
	ok(t, built.err)
	return built.programs
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually reports whether cond held in time.
func eventually(limit time.Duration, cond func() bool) bool {
	for end := time.Now().Add(limit); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
