// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run returns 0, 1 if there is something to complain of, or 2 if that cannot be said.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	complaints, err := check(ctx, args)
	for _, complaint := range complaints {
		_, _ = fmt.Fprintln(stdout, complaint)
	}
	switch {
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "tfcheck:", err)
		return 2
	case len(complaints) > 0:
		return 1
	}
	return 0
}

var errUsage = errors.New("usage: tfcheck docs [-w] MODULE... | rules -repo DIR TERRAFORM | upgrade [-terraform PROGRAM] DIR")

func check(ctx context.Context, args []string) (complaints []string, err error) {
	if len(args) == 0 {
		return nil, errUsage
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	write := flags.Bool("w", false, "")
	repo := flags.String("repo", "", "")
	terraform := flags.String("terraform", "terraform", "")
	if err := flags.Parse(args[1:]); err != nil {
		return nil, errors.Join(err, errUsage)
	}
	switch {
	case args[0] == "docs" && flags.NArg() > 0:
		for _, dir := range flags.Args() {
			stale, err := checkDocs(dir, *write)
			if err != nil {
				return complaints, err
			}
			complaints = append(complaints, stale...)
		}
		return complaints, nil
	case args[0] == "rules" && flags.NArg() == 1 && *repo != "":
		return checkRules(ctx, *repo, flags.Arg(0))
	case args[0] == "upgrade" && flags.NArg() == 1:
		return checkUpgrade(ctx, *terraform, flags.Arg(0))
	}
	return nil, errUsage
}
