// SPDX-License-Identifier: MPL-2.0

// Command consul-lambda is for people: it shows what the extension and the registrator do, on a machine without an AWS
// account, and looks at what they would do in one. Each command is a file of its name. It exits 0 if all went well, 1 if
// not (what it has to say could not be written, for one), 2 if it was called wrongly, 130 on Ctrl-C; what plan and doctor mean
// by a code besides is in their help. When nobody reads its output any more it stops too, and exits 141.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/consul-lambda/consul-lambda/internal/version"
)

func main() {
	// With a listener, whom nobody hears, writing to a closed pipe fails and does not kill: what was started has to be ended
	// first. Sockets send the signal too then, so it says nothing. Ignored, it would be ignored by what is started too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// commands are listed in the order in which somebody new would use them.
func commands() []*cli.Command {
	return []*cli.Command{demoCommand(), labCommand(), doctorCommand(), planCommand(), benchCommand()}
}

const start = `
To see what it does, on this machine only:       consul-lambda demo
To try things in such a world:                   consul-lambda lab --help
A function does not reach the mesh:              consul-lambda doctor --function NAME
Before the registrator runs for the first time:  consul-lambda plan --help`

// run returns the exit code. The end of ctx interrupts whatever is running.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &output{w: stdout, abandoned: cancel}
	root := &cli.Command{
		Name:            "consul-lambda",
		Usage:           "AWS Lambda functions in a Consul service mesh",
		Description:     strings.TrimSpace(start),
		Version:         version.String(),
		Commands:        commands(),
		HideHelpCommand: true,
		Writer:          out,
		ErrWriter:       stderr,
		ExitErrHandler:  func(context.Context, *cli.Command, error) {}, // main exits, nobody else
		OnUsageError:    onUsageError,
		Action:          help,
	}
	for _, c := range root.Commands {
		c.OnUsageError, c.Before = onUsageError, noArguments
	}
	err := root.Run(ctx, args)
	if out.err != nil && (err == nil || errors.Is(err, errTold)) {
		err = exit{unsaid(args), out.err}
	}
	if err == nil {
		return 0
	}
	if errors.Is(out.err, syscall.EPIPE) {
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, context.Canceled) {
			_, _ = fmt.Fprintln(stderr, "consul-lambda:", err)
		}
		return 141 // what a shell says of a program that a closed pipe has ended
	}
	if ctx.Err() != nil {
		_, _ = fmt.Fprintln(stderr, "consul-lambda: interrupted")
		return 130
	}
	if !errors.Is(err, errTold) {
		_, _ = fmt.Fprintln(stderr, "consul-lambda:", err)
	}
	var e exit
	if errors.As(err, &e) {
		return e.code
	}
	return 1
}

// help is what is done without a command, and for those who say "help", or "help plan".
func help(ctx context.Context, cmd *cli.Command) error {
	name := cmd.Args().First()
	if name == "help" {
		if name = cmd.Args().Get(1); name != "" && cmd.Command(name) != nil {
			return cli.ShowCommandHelp(ctx, cmd, name)
		}
	}
	if name != "" {
		return misused(cmd, fmt.Errorf("no command %q", name))
	}
	return cli.ShowRootCommandHelp(cmd)
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

// misused is the error of a command that was called wrongly: it says where to read how. Its exit status is 2, but for plan, which says
// by 2 that there are changes.
func misused(cmd *cli.Command, err error) error {
	code := 2
	if cmd.Name == planName {
		code = 1
	}
	return exit{code, fmt.Errorf("%w (see %s --help)", err, cmd.FullName())}
}

// unsaid is the exit status of a command whose findings could not be written: 1, but for doctor, which says by 1 that a check failed.
func unsaid(args []string) int {
	if len(args) > 1 && args[1] == doctorName {
		return 2
	}
	return 1
}

func onUsageError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	return misused(cmd, reworded(cmd, err))
}

// refusedValue is how the library words a value that it cannot read: with Go's own words for it, which name no example.
var refusedValue = regexp.MustCompile(`(?s)^invalid value (".*") for flag -([a-z-]+): `)

// reworded says what a flag takes where the library does not. All other errors are left as they are.
func reworded(cmd *cli.Command, err error) error {
	m := refusedValue.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	for _, f := range cmd.Flags {
		if !slices.Contains(f.Names(), m[2]) {
			continue
		}
		accepted := ""
		switch f.(type) {
		case *cli.DurationFlag:
			accepted = "a time with its unit, such as 500ms or 2s"
		case *cli.IntFlag:
			accepted = "a whole number above 0"
		case *cli.BoolFlag:
			accepted = "true or false, or nothing for true"
		default:
			return err
		}
		return fmt.Errorf("--%s %s: want %s", m[2], m[1], accepted)
	}
	return err
}

// noArguments refuses what a command would otherwise pass over in silence: none has arguments.
func noArguments(ctx context.Context, cmd *cli.Command) (context.Context, error) {
	if cmd.Args().Present() {
		return ctx, misused(cmd, fmt.Errorf("%s takes no argument, and was given %q", cmd.Name, cmd.Args().First()))
	}
	return ctx, nil
}
