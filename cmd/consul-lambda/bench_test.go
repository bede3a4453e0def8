// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/consul-lambda/consul-lambda/bench"
)

// runBenchCommand runs the command with arguments, and returns what it writes.
func runBenchCommand(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := &cli.Command{
		Name: "consul-lambda", Commands: []*cli.Command{benchCommand()}, Writer: &out, ErrWriter: &out,
	}
	err := root.Run(t.Context(), append([]string{"consul-lambda", "bench"}, args...))
	return out.String(), err
}

// A report is made again from the file of a run, without measuring.
func TestBenchRendersWhatWasMeasured(t *testing.T) {
	dir := t.TempDir()
	result := filepath.Join(dir, "results", "run.json")
	if err := os.MkdirAll(filepath.Dir(result), 0o755); err != nil {
		t.Fatal(err)
	}
	measured := `{"Systems":[{"Name":"consul-lambda"}],"Cells":[{"Row":"down-1","System":"consul-lambda","Metric":"CPU per GB","Unit":"s/GB","Value":0.5,"Rounds":[0.5]}]}`
	if err := os.WriteFile(result, []byte(measured), 0o600); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(dir, "REPORT.md")
	if out, err := runBenchCommand(t, "--render", result, "--json", result, "--markdown", report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(report)
	if err != nil || !strings.Contains(string(b), "(results/cpu-down.svg)") {
		t.Errorf("%v, the report is: %s", err, b)
	}
	if _, err := os.Stat(filepath.Join(dir, "results", "cpu-down.svg")); err != nil {
		t.Error(err)
	}
}

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--peer", "predecessor"}, "want NAME=PATH"},
		{[]string{"--render", "nowhere.json"}, "nowhere.json"},
	} {
		if _, err := runBenchCommand(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}

// The flag's value is split at commas. A row that does not exist is asked for, so that nothing is measured: it is complained
// about only once all systems were found.
func TestBenchFindsEverySystemByItsName(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("measures on Linux only")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{bench.Ours, bench.OursNoSpare, bench.OursFull, bench.Baseline, bench.Direct, bench.Splice}
	for _, systems := range append(names, strings.Join(names, ",")) {
		_, err := runBenchCommand(t, "--systems", systems, "--only", "nothing", "--extension", program, "--baseline", program)
		if err == nil || !strings.Contains(err.Error(), `no row begins with "nothing"`) {
			t.Errorf("--systems %q: %v", systems, err)
		}
	}
}

// The command in a report is of use on another machine.
func TestBenchNamesItsCommandWithoutFolders(t *testing.T) {
	got := benchCommandLine([]string{"/somewhere/bin/consul-lambda", "bench", "--peer", "predecessor=/somewhere/else/extension", "--json", "bench/results/bench.json"})
	if want := "consul-lambda bench --peer predecessor=extension --json bench/results/bench.json"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}
