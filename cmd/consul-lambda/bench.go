// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/consul-lambda/consul-lambda/bench"
)

// benchCommand measures proxies side by side on this machine.
func benchCommand() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "measure the extension beside a baseline and other proxies, on this machine (Linux)",
		Description: strings.TrimSpace(`
Every system is a process of its own between a client and an mTLS server that stand for function and mesh. HAProxy, nginx and stunnel
take part where they are installed. A full run takes a quarter of an hour; nothing else should run meanwhile.

   consul-lambda bench --quick
   consul-lambda bench --only connect,pingpong --systems consul-lambda,baseline
   consul-lambda bench --json result.json --markdown report.md
   consul-lambda bench --render result.json

The report goes to standard output, if no file is named. What it measures and cannot see is in bench/doc.go.

The exit status is 0 if every sample was taken, and with --ci if each ratio and limit was kept.`),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "quick", Usage: "a minute at most, to see that everything works; its figures say little"},
			&cli.StringSliceFlag{Name: "only", Usage: "rows whose names begin so: connect, pingpong, down, up, parallel, memory, coldstart, share"},
			&cli.StringSliceFlag{Name: "systems", Usage: "names of systems, as in the report; all if not given"},
			&cli.StringSliceFlag{Name: "peer", Usage: "NAME=PATH of another extension that reads the same environment; ratios refer to one called " + bench.Predecessor},
			&cli.IntFlag{Name: "rounds", Usage: "how often everything is measured", DefaultText: "5, or 1 with --quick", Validator: positive},
			&cli.IntFlag{Name: "bulk", Usage: "MiB that each bulk figure of a round moves", DefaultText: "512, or 32 with --quick", Validator: positive},
			&cli.StringFlag{Name: "json", Usage: "write the result to `FILE`"},
			&cli.StringFlag{Name: "markdown", Usage: "write the report to `FILE`, and its plots beside the result of --json"},
			&cli.StringFlag{Name: "ci", Usage: "measure little, and check it against the ratios in `FILE` and against fixed limits"},
			&cli.BoolFlag{Name: "counts", Usage: "with --ci: check system calls only, which a busy machine changes little"},
			&cli.BoolFlag{Name: "update", Usage: "with --ci: make its file from what is measured; for a quiet machine"},
			&cli.StringFlag{Name: "render", Usage: "measure nothing: read a result from `FILE`"},
			&cli.StringFlag{Name: "extension", Usage: "our extension", DefaultText: "beside this program"},
			&cli.StringFlag{Name: "baseline", Usage: "the program of bench/baseline", DefaultText: "bench-baseline beside this program"},
		},
		Action: runBench,
	}
}

// positive refuses what would be taken for the default.
func positive(n int) error {
	if n < 1 {
		return errors.New("want a number above 0")
	}
	return nil
}

func runBench(ctx context.Context, cmd *cli.Command) error {
	if file := cmd.String("ci"); file != "" {
		return bench.RunCI(ctx, bench.CIConfig{
			Extension: beside(cmd.String("extension"), "consul-lambda-extension"),
			Baseline:  beside(cmd.String("baseline"), "bench-baseline"),
			Expected:  file,
			Update:    cmd.Bool("update"),
			Counts:    cmd.Bool("counts"),
			Out:       cmd.Root().Writer,
		})
	}
	if cmd.Bool("update") || cmd.Bool("counts") {
		return misused(cmd, errors.New("--update and --counts go with --ci FILE"))
	}
	result, err := benchResult(ctx, cmd)
	if err != nil {
		return err
	}
	if file := cmd.String("json"); file != "" {
		if err := writeFile(file, result.WriteJSON); err != nil {
			return err
		}
	}
	if file := cmd.String("markdown"); file != "" {
		if err := writeReport(result, file, cmd.String("json")); err != nil {
			return err
		}
	} else if err := result.WriteMarkdown(cmd.Root().Writer, ""); err != nil {
		return err
	}
	if len(result.Failures) > 0 {
		return fmt.Errorf("%d samples failed:\n%s", len(result.Failures), strings.Join(result.Failures, "\n"))
	}
	return nil
}

// benchResult measures, or reads what was measured before.
func benchResult(ctx context.Context, cmd *cli.Command) (*bench.Result, error) {
	if file := cmd.String("render"); file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return bench.ReadResult(f)
	}
	cfg := bench.Config{
		Extension: beside(cmd.String("extension"), "consul-lambda-extension"),
		Baseline:  beside(cmd.String("baseline"), "bench-baseline"),
		Systems:   cmd.StringSlice("systems"),
		Only:      cmd.StringSlice("only"),
		Rounds:    cmd.Int("rounds"),
		BulkBytes: int64(cmd.Int("bulk")) << 20,
		Quick:     cmd.Bool("quick"),
		Command:   benchCommandLine(os.Args),
		Progress:  cmd.Root().ErrWriter,
	}
	for _, p := range cmd.StringSlice("peer") {
		name, path, ok := strings.Cut(p, "=")
		if !ok || name == "" || path == "" {
			return nil, misused(cmd, fmt.Errorf("--peer %q: want NAME=PATH", p))
		}
		cfg.Peers = append(cfg.Peers, bench.Peer{Name: name, Path: path})
	}
	return bench.Run(ctx, cfg)
}

// beside returns the given path, or that of a program in the folder of this one.
func beside(given, name string) string {
	if given != "" {
		return given
	}
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

// benchCommandLine is how to do it again: without the folders of this machine.
func benchCommandLine(args []string) string {
	line := []string{"consul-lambda"}
	for _, arg := range args[1:] {
		name, path, ok := strings.Cut(arg, "=")
		if ok && filepath.IsAbs(path) {
			arg = name + "=" + filepath.Base(path)
		} else if filepath.IsAbs(arg) {
			arg = filepath.Base(arg)
		}
		line = append(line, arg)
	}
	return strings.Join(line, " ")
}

// writeReport writes the Markdown, and its plots where the result is: links in it are relative.
func writeReport(result *bench.Result, file, json string) error {
	plots := filepath.Dir(file)
	if json != "" {
		plots = filepath.Dir(json)
	}
	if err := result.WritePlots(plots); err != nil {
		return err
	}
	link, err := filepath.Rel(filepath.Dir(file), plots)
	if err != nil {
		return err
	}
	return writeFile(file, func(w io.Writer) error { return result.WriteMarkdown(w, filepath.ToSlash(link)) })
}

// writeFile makes a file, with its folder.
func writeFile(name string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
