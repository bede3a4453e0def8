// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns 0, 1 if there is something to complain of, or 2 if that cannot be said.
func run(args []string, stdout, stderr io.Writer) int {
	complaints, err := check(args)
	for _, complaint := range complaints {
		fmt.Fprintln(stdout, complaint)
	}
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "tfcheck:", err)
		return 2
	case len(complaints) > 0:
		return 1
	}
	return 0
}

var errUsage = errors.New("usage: tfcheck docs [-w] MODULE... | rules -repo DIR TERRAFORM | upgrade [-terraform PROGRAM] DIR")

func check(args []string) (complaints []string, err error) {
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
		return checkRules(*repo, flags.Arg(0))
	case args[0] == "upgrade" && flags.NArg() == 1:
		return checkUpgrade(*terraform, flags.Arg(0))
	}
	return nil, errUsage
}
