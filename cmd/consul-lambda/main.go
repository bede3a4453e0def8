// SPDX-License-Identifier: MPL-2.0

// Command consul-lambda is for people: it shows what the extension and the registrator do, on a machine without an AWS
// account, and looks at what they would do in one. Each command is a file of its name. It exits 0 if all went well, 1 if
// not, 2 if it was called wrongly, 130 on Ctrl-C; what plan and doctor mean by a code is in their help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/consul-lambda/consul-lambda/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// commands are listed in the order in which somebody new would use them.
func commands() []*cli.Command {
	return []*cli.Command{demoCommand(), labCommand(), doctorCommand(), planCommand(), benchCommand()}
}

// run returns the exit code. The end of ctx interrupts whatever is running.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	misused := false
	root := &cli.Command{
		Name:            "consul-lambda",
		Usage:           "AWS Lambda functions in a Consul service mesh",
		Version:         version.String(),
		Commands:        commands(),
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       stderr,
		ExitErrHandler:  func(context.Context, *cli.Command, error) {}, // main exits, nobody else
		OnUsageError: func(_ context.Context, _ *cli.Command, err error, _ bool) error {
			misused = true
			return err
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			if name := cmd.Args().First(); name != "" {
				misused = true
				return fmt.Errorf("no command %q: see consul-lambda --help", name)
			}
			return cli.ShowRootCommandHelp(cmd)
		},
	}
	for _, c := range root.Commands {
		if c.OnUsageError == nil {
			c.OnUsageError = root.OnUsageError
		}
	}
	err := root.Run(ctx, args)
	var e exit
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, "consul-lambda: interrupted")
		return 130
	case errors.As(err, &e):
		if !errors.Is(err, errTold) {
			_, _ = fmt.Fprintln(stderr, "consul-lambda:", err)
		}
		return e.code
	case misused:
		_, _ = fmt.Fprintln(stderr, "consul-lambda:", err)
		return 2
	case !errors.Is(err, errTold):
		_, _ = fmt.Fprintln(stderr, "consul-lambda:", err)
	}
	return 1
}

// errTold is returned by a command that has said already what went wrong.
var errTold = errors.New("failed")

// exit is an error with an exit code of its own.
type exit struct {
	code int
	err  error // errTold: it was said already
}

func (e exit) Error() string { return e.err.Error() }
func (e exit) Unwrap() error { return e.err }

// noArguments refuses what a command would otherwise pass over in silence.
func noArguments(cmd *cli.Command) error {
	if cmd.Args().Present() {
		return fmt.Errorf("%s takes no argument, and was given %q: see consul-lambda %s --help", cmd.Name, cmd.Args().First(), cmd.Name)
	}
	return nil
}
