// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/lab/labtest"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"consul-lambda": main})
}

// leakless fails a run that leaves a goroutine behind.
type leakless struct{ tests *testing.M }

func (l leakless) Run() int {
	defer labtest.Remove()
	waittest.Parallel(8) // labs wait
	code := l.tests.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// command runs the program's main and returns what it left behind.
func command(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"consul-lambda"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// process is command in a process of its own, with more variables: tests that need different ones, of which a process has one set,
// can run beside each other.
func process(t testing.TB, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "consul-lambda", args...) // testscript.Main puts it into the path
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")        // else an exit takes 1 s under -race
	cmd.Env = append(cmd.Env, environ...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exited *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestHelpTeaches(t *testing.T) {
	for _, c := range []struct {
		args []string
		says []string
	}{
		{nil, []string{"demo", "--help", "--version"}},
		{[]string{"--help"}, []string{"demo", "function"}},
		{[]string{"demo", "--help"}, []string{"--json", "--bin", "What is real", "What stands in", "SHUTDOWN", "exit status"}},
		{[]string{"--version"}, []string{"consul-lambda"}},
	} {
		code, stdout, stderr := command(t, c.args...)
		for _, s := range c.says {
			if !strings.Contains(stdout, s) {
				t.Errorf("%v does not say %q:\n%s", c.args, s, stdout)
			}
		}
		if code != 0 || stderr != "" {
			t.Errorf("%v: exit code %d, %q", c.args, code, stderr)
		}
	}
}

func TestAWrongCallIsToldAndIsExitCode2(t *testing.T) {
	for _, args := range [][]string{{"dmeo"}, {"--nonsense"}, {"demo", "--nonsense"}} {
		code, _, stderr := command(t, args...)
		if code != 2 || !strings.Contains(stderr, "consul-lambda: ") {
			t.Errorf("%v: exit code %d, %q", args, code, stderr)
		}
	}
}

func TestADemoWithoutItsProgramsSaysWhatToDo(t *testing.T) {
	code, stdout, stderr := command(t, "demo", "--bin", t.TempDir())
	if code != 1 || stdout != "" || !strings.Contains(stderr, "consul-lambda-extension") || !strings.Contains(stderr, "make build") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

// broken returns a folder whose programs end at once.
func broken(t testing.TB) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("functions run on Linux only")
	}
	program, err := exec.LookPath("true")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"consul-lambda-extension", "consul-lambda-registrator", "mesh-function"} {
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAFailedStepEndsTheDemo(t *testing.T) {
	t.Parallel()
	dir := broken(t)
	code, stdout, stderr := process(t, nil, "demo", "--bin", dir)
	if code != 1 || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	for _, s := range []string{"1  Registration", "FAILED", "Runtime.ExitError", "step 1 failed: Registration"} {
		if !strings.Contains(stdout, s) {
			t.Errorf("the transcript does not have %q:\n%s", s, stdout)
		}
	}
	if strings.Contains(stdout, "\x1b") {
		t.Error("there are colours, and no terminal")
	}

	code, stdout, _ = process(t, nil, "demo", "--json", "--bin", dir)
	var told struct {
		OK    bool
		Steps []struct {
			Name, Error string
			OK          bool
		}
	}
	if err := json.Unmarshal([]byte(stdout), &told); err != nil || code != 1 || told.OK || len(told.Steps) != 1 || told.Steps[0].OK || told.Steps[0].Error == "" {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}
}

func TestAnInterruptedDemoIsExitCode130(t *testing.T) {
	dir := broken(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"consul-lambda", "demo", "--bin", dir}, &out, &errs); code != 130 {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errs.String())
	}
}

// Else the processes that a command has started would outlive it.
func TestAProcessWhoseOutputNobodyReadsIsNotKilledByThat(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_ = r.Close()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "consul-lambda", "--help")
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.Stdout, cmd.Stderr = w, &errs
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 141 || errs.Len() > 0 {
		t.Errorf("it ended with %s, and said %q, want exit code 141 and nothing", cmd.ProcessState, &errs)
	}
}

func TestATranscriptHasOneLinePerFact(t *testing.T) {
	var out bytes.Buffer
	tr := newTranscript(&out, false)
	err := tr.run("Greeting", "somebody says hello", func(s *step) error {
		s.tell("took", 1500*time.Microsecond, "not long")
		s.tell("lasted", 90*time.Second, "")
		s.tell("moved", size(3<<20), "")
		s.tell("said", "hello to everybody in the room", "loudly")
		s.tell("code", 0, "")
		return nil
	}, func() []string { t.Error("nothing failed"); return nil })
	if err := tr.end(err); err != nil {
		t.Fatal(err)
	}
	const wanted = `
1  Greeting  somebody says hello
   took                                 1.5 ms   not long
   lasted                               90.0 s
   moved                               3.0 MiB
   said                           hello to everybody in the room
                                  loudly
   code                                      0
   ok

all 1 steps are as they should be in 0.0 s
`
	if out.String() != wanted {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), wanted)
	}

	out.Reset()
	tr = newTranscript(&out, true)
	_ = tr.end(tr.run("Greeting", "", func(s *step) error {
		s.tell("took", 1500*time.Microsecond, "")
		s.tell("moved", size(3<<20), "")
		return want(false, "a hello", "nothing")
	}, func() []string { return []string{"a line"} }))
	const wantedJSON = `{"ok":false,"seconds":S,"steps":[{"name":"Greeting","ok":false,"seconds":S,"facts":[` +
		`{"label":"took","value":1.5,"unit":"ms"},{"label":"moved","value":3145728,"unit":"bytes"}],` +
		`"error":"expected: a hello\nseen:     nothing","log":["a line"]}]}` + "\n"
	if got := withoutSeconds(t, out.String()); got != wantedJSON {
		t.Errorf("got  %s\nwant %s", got, wantedJSON)
	}
}

// withoutSeconds replaces the numbers that differ from run to run.
func withoutSeconds(t testing.TB, s string) string {
	t.Helper()
	parts := strings.Split(s, `"seconds":`)
	for i := 1; i < len(parts); i++ {
		end := strings.IndexByte(parts[i], ',')
		if end < 0 {
			t.Fatalf("no end of a number in %s", s)
		}
		parts[i] = "S" + parts[i][end:]
	}
	return strings.Join(parts, `"seconds":`)
}
