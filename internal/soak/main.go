// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	ossignal "os/signal"
	"syscall"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
)

func main() {
	ctx, stop := ossignal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// errViolated: the run found what must not be.
var errViolated = errors.New("the extension did not hold: see the violations above")

// command is the whole program. The end of ctx ends the run early, which is reported as usual.
func command(ctx context.Context, args []string, stdout, stderr *os.File) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	length := flags.Duration("for", 20*time.Minute, "how long to go on")
	seed := flags.Uint64("seed", rand.Uint64N(1e9), "of all that is random, to repeat a run: the schedule and the calls, not their interleaving")
	callers := flags.Int("callers", 10, "how many calls are made at a time")
	markdown := flags.String("markdown", "", "write the report to `FILE`, too")
	bin := flags.String("bin", "", "`DIR` with the programs that make build has built; built anew if not given")
	if err := flags.Parse(args); err != nil {
		return err
	}
	programs, clean, err := prepare(ctx, *bin)
	if err != nil {
		return err
	}
	defer clean()
	cfg := config{programs: programs, length: *length, seed: *seed, callers: *callers, progress: stderr, every: 30 * time.Second}
	if info, err := stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		cfg.every, cfg.rewrite = time.Second, true
	}
	_, _ = fmt.Fprintf(stderr, "soak: for %s with -seed %d\n", *length, *seed)
	report, err := run(ctx, cfg)
	if report == nil {
		return err
	}
	_, _ = fmt.Fprintln(stderr)
	if *markdown != "" {
		err = errors.Join(err, writeFile(*markdown, report.write))
	}
	err = errors.Join(err, report.write(stdout))
	if report.violated > 0 {
		err = errors.Join(err, errViolated)
	}
	return err
}

// prepare finds the programs, or builds them. clean removes what was built.
func prepare(ctx context.Context, bin string) (p lab.Programs, clean func(), err error) {
	if bin != "" {
		p, err = lab.FindPrograms(bin)
		return p, func() {}, err
	}
	dir, err := os.MkdirTemp("", "consul-lambda-soak-")
	if err != nil {
		return p, nil, err
	}
	clean = func() { _ = os.RemoveAll(dir) }
	if p, err = lab.Build(ctx, dir, lab.BuildOptions{}); err != nil {
		clean()
	}
	return p, clean, err
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
