// SPDX-License-Identifier: MPL-2.0

// Command containerfile checks a container file without building it: with BuildKit's own parser and its linter, and that what it
// copies is there, for both architectures.
//
//	containerfile deploy/registrator.Containerfile dist
//
// It pulls nothing and runs nothing: whether the base image has what the program needs is not seen.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "containerfile:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: containerfile FILE CONTEXT, got %d arguments", len(args))
	}
	file, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read only: nothing is lost
	ast, err := parser.Parse(file)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	var errs []error
	for _, w := range ast.Warnings {
		errs = append(errs, fmt.Errorf("%s: %s", args[0], w.Short))
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		errs = append(errs, fmt.Errorf("%s: %s: %s", args[0], rule, message))
	}})
	stages, _, err := instructions.Parse(ast.AST, lint)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return errors.Join(append(errs, check(stages, args[1])...)...)
}

// check holds what every image of ours has to be: one stage, which copies what is there, runs as somebody but root, and says what.
func check(stages []instructions.Stage, context string) (errs []error) {
	if len(stages) != 1 {
		return []error{fmt.Errorf("%d stages, want one: nothing is built in it", len(stages))}
	}
	user, entry, copies := "", 0, 0
	for _, command := range stages[0].Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			if entry = len(c.CmdLine); c.PrependShell {
				errs = append(errs, errors.New("ENTRYPOINT needs a shell, and there is none"))
			}
		case *instructions.RunCommand:
			errs = append(errs, errors.New("RUN needs a shell, and there is none"))
		case *instructions.CopyCommand:
			for _, arch := range []string{"amd64", "arm64"} {
				for _, path := range c.SourcePaths {
					path = filepath.Join(context, strings.ReplaceAll(path, "${TARGETARCH}", arch))
					if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
						errs = append(errs, fmt.Errorf("COPY %s: no such file", path))
					}
					copies++
				}
			}
		}
	}
	if uid, _, _ := strings.Cut(user, ":"); uid == "" || uid == "0" || uid == "root" {
		errs = append(errs, fmt.Errorf("USER %q: want one that is not root", user))
	}
	if entry == 0 || copies == 0 {
		errs = append(errs, errors.New("there is no ENTRYPOINT, or nothing is copied"))
	}
	return errs
}
