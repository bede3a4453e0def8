// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

const extension = "consul-lambda-extension"

// wantInitError starts the function, which must fail with that type.
func wantInitError(t *testing.T, fn Function, errorType string) *InitError {
	t.Helper()
	s, err := Start(t.Context(), fn, Options{})
	if err == nil {
		s.Kill()
		t.Fatalf("Init succeeded, want %s", errorType)
	}
	var failed *InitError
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want an *InitError", err)
	}
	if failed.Type != errorType {
		t.Fatalf("got %v, want %s\n%s", failed, errorType, transcript(failed.Logs))
	}
	return failed
}

// wantFault invokes, which must fail with that type.
func wantFault(t *testing.T, s *Sandbox, payload, errorType string) *Fault {
	t.Helper()
	_, err := s.Invoke(t.Context(), []byte(payload))
	var f *Fault
	if !errors.As(err, &f) || f.Type != errorType {
		t.Fatalf("got %v, want %s", err, errorType)
	}
	return f
}

// Time before register delays the runtime; Init ends when all are ready.
func TestTheRuntimeStartsOnceEveryExtensionHasRegistered(t *testing.T) {
	t.Parallel()
	s := start(t, function(t, map[string]string{
		"quick": "register SHUTDOWN; sleep 60ms; loop",
		"slow":  "sleep 80ms; register INVOKE,SHUTDOWN; loop",
	}), Options{})
	r := s.Init()
	if len(r.Extensions) != 2 || r.Suppressed {
		t.Fatalf("report %+v", r)
	}
	for _, e := range r.Extensions {
		if e.Registered <= 0 || e.Ready < e.Registered || e.Ready > r.Total {
			t.Errorf("%s: registered %v, ready %v, total %v", e.Name, e.Registered, e.Ready, r.Total)
		}
		if e.Name == "slow" && (e.Registered < 80*time.Millisecond || r.RuntimeStarted < e.Registered) {
			t.Errorf("the runtime started at %v, the slow extension registered at %v", r.RuntimeStarted, e.Registered)
		}
		if e.Name == "quick" && e.Ready < 60*time.Millisecond {
			t.Errorf("quick was ready at %v", e.Ready)
		}
	}
	if r.RuntimeReady <= r.RuntimeStarted || r.Total < r.RuntimeReady {
		t.Errorf("runtime started %v, ready %v, total %v", r.RuntimeStarted, r.RuntimeReady, r.Total)
	}
}

// later is a file that is there once it was made.
func later(t testing.TB) (file string, make func()) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "file")
	return file, func() {
		t.Helper()
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARealGoFunctionAnswersThroughTheRuntimeAPI(t *testing.T) {
	t.Parallel()
	s := start(t, function(t, map[string]string{extension: "register SHUTDOWN; loop"}), Options{AccountID: "000000000001", Region: "eu-north-1"})
	before := time.Now()
	r := invoke(t, s, `{"do":"echo","text":"hello"}`)
	var got response
	if err := json.Unmarshal(r.Payload, &got); err != nil {
		t.Fatal(err)
	}
	if got.Text != "hello" || got.RequestID != r.RequestID || r.FunctionError != "" || r.ColdStart || r.Duration <= 0 {
		t.Errorf("result %+v, payload %s", r, r.Payload)
	}
	if want := "arn:aws:lambda:eu-north-1:000000000001:function:orders"; got.ARN != want {
		t.Errorf("ARN %s, want %s", got.ARN, want)
	}
	// The API carries milliseconds.
	if early := before.Add(s.function.Timeout).Add(-time.Millisecond); got.Deadline.Before(early) || got.Deadline.After(time.Now().Add(s.function.Timeout)) {
		t.Errorf("deadline %v, invoked at %v", got.Deadline, before)
	}
	if again := invoke(t, s, `{}`); again.RequestID == r.RequestID {
		t.Error("two invocations have one id")
	}

	r = invoke(t, s, `{"do":"error","text":"no such order"}`)
	if r.FunctionError != unhandled || !strings.Contains(string(r.Payload), "no such order") {
		t.Errorf("a function's error: %+v, payload %s", r, r.Payload)
	}
	if s.Err() != nil {
		t.Errorf("a function's own error is no fault of the sandbox: %v", s.Err())
	}
}

// INVOKE goes to those who subscribed, and only they are waited for, after
// the response has reached the invoker.
func TestTheResponseDoesNotWaitForExtensionsButTheNextInvocationDoes(t *testing.T) {
	t.Parallel()
	done, finish := later(t)
	s := start(t, function(t, map[string]string{
		extension: "register SHUTDOWN; loop",
		"tail":    "register INVOKE,SHUTDOWN; loop " + done,
	}), Options{})
	r := invoke(t, s, `{}`) // and the extension works until it is told that it is done
	second := make(chan error, 1)
	go func() {
		_, err := s.Invoke(t.Context(), nil)
		second <- err
	}()
	select {
	case err := <-second:
		t.Errorf("the second invocation did not wait for the first to end: %v", err)
	case <-time.After(100 * time.Millisecond): // in which an invocation that waits for nobody is answered
		finish()
		if err := <-second; err != nil {
			t.Error(err)
		}
	}
	waitLine(t, s, "tail", "work done")
	l := waitLine(t, s, "tail", r.RequestID)
	for _, want := range []string{`"eventType":"INVOKE"`, `"deadlineMs":1`, `"invokedFunctionArn":"arn:aws:lambda:`, `"X-Amzn-Trace-Id"`, "Root=1-"} {
		if !strings.Contains(l.Text, want) {
			t.Errorf("the event lacks %s: %s", want, l.Text)
		}
	}
	if hasLine(s.Logs(), extension, "INVOKE") {
		t.Error("an extension that did not subscribe to INVOKE received it")
	}
}

// Any exit of an extension outside a shutdown is a crash, code 0 too.
func TestAnExtensionThatExitsEndsInit(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"exit 0", "register SHUTDOWN; exit 0", "register SHUTDOWN; exit 3"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			failed := wantInitError(t, function(t, map[string]string{extension: script}), ExtensionCrash)
			if failed.Source != extension || !strings.Contains(failed.Message, "exit status "+script[len(script)-1:]) {
				t.Errorf("fault %+v", failed.Fault)
			}
		})
	}
}

func TestAnExtensionThatDiesFailsTheNextInvocationAndTheOneAfterRunsInitAgain(t *testing.T) {
	t.Parallel()
	s := start(t, function(t, map[string]string{
		extension: "register SHUTDOWN; loop",
		"other":   "register SHUTDOWN; loop",
	}), Options{})
	died, pid := s.Died(), s.ExtensionPID(extension)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-died:
	case <-time.After(waittest.Patience):
		t.Fatal("the death was not noticed")
	}
	var f *Fault
	if !errors.As(s.Err(), &f) || f.Type != ExtensionCrash || f.Source != extension || f.Message != "signal: killed" {
		t.Errorf("Err is %v", s.Err())
	}
	wantFault(t, s, `{}`, ExtensionCrash)
	waitLine(t, s, "other", `"shutdownReason":"FAILURE"`)

	r := invoke(t, s, `{"text":"back"}`)
	if !r.ColdStart || !s.Init().Suppressed || s.Err() != nil || s.ExtensionPID(extension) == pid {
		t.Errorf("after the reset: %+v, Err %v", r, s.Err())
	}
	if invoke(t, s, `{}`).ColdStart {
		t.Error("Init ran a third time")
	}
}

// What an extension reports is shown, not that it exited afterwards. R12.
func TestAnExtensionsInitErrorIsReported(t *testing.T) {
	t.Parallel()
	failed := wantInitError(t, function(t, map[string]string{
		extension: "register SHUTDOWN; initerror Extension.ConfigInvalid; next; exit 1",
	}), ExtensionInitError)
	if r := failed.Reported; r == nil || r.Type != "Extension.ConfigInvalid" || r.Message != "told you so" {
		t.Errorf("reported %+v", r)
	}
	if got, want := failed.Error(), "lambdasim: Extension.InitError (consul-lambda-extension), reported Extension.ConfigInvalid: told you so, during Init"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if f := (*Fault)(nil); !errors.As(error(failed), &f) || f.Type != failed.Type {
		t.Error("an *InitError is not a *Fault")
	}
	if !hasLine(failed.Logs, extension, "initerror 202") || !hasLine(failed.Logs, extension, "next 403") {
		t.Errorf("after the report:\n%s", transcript(failed.Logs))
	}
	if e, ok := failed.Shutdown.Exit(extension); !ok || e.Code != 1 || e.Killed {
		t.Errorf("exit %+v", e)
	}
}

// The limit of Init. An extension under a foreign name never registers.
func TestInitIsLimited(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"never registers":            "hang",
		"never asks for an event":    "register SHUTDOWN; hang",
		"registers under wrong name": "registeras someone-else INVOKE; hang",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn := function(t, map[string]string{extension: script})
			fn.InitLimit, fn.ShutdownLimit = 500*time.Millisecond, 50*time.Millisecond
			failed := wantInitError(t, fn, SandboxTimedout)
			if failed.Report.Total < fn.InitLimit/2 { // counted from a moment after the limit began
				t.Errorf("gave up after %v", failed.Report.Total)
			}
			if e, ok := failed.Shutdown.Exit(extension); !ok || !e.Killed || e.Signal != syscall.SIGKILL {
				t.Errorf("exit %+v", e)
			}
		})
	}
}

// Every file in /opt/extensions is executed, a LICENSE too.
func TestAFileThatCannotBeExecutedFailsTheLaunch(t *testing.T) {
	t.Parallel()
	fn := function(t, map[string]string{extension: "register SHUTDOWN; loop"})
	license := filepath.Join(t.TempDir(), "LICENSE")
	if err := os.WriteFile(license, []byte("words"), 0o600); err != nil {
		t.Fatal(err)
	}
	fn.Extensions = append(fn.Extensions, license)
	if failed := wantInitError(t, fn, ExtensionLaunchError); failed.Source != "LICENSE" {
		t.Errorf("fault %+v", failed.Fault)
	}
}

func TestTenExtensionsAreTheLimit(t *testing.T) {
	t.Parallel()
	scripts := make(map[string]string)
	for i := range maxExtensions + 1 {
		scripts["ext"+strconv.Itoa(i)] = "register SHUTDOWN; loop"
	}
	wantInitError(t, function(t, scripts), ExtensionLaunchError)
}

func TestARuntimeThatCannotStartFailsInit(t *testing.T) {
	t.Parallel()
	t.Run("not executable", func(t *testing.T) {
		t.Parallel()
		fn := function(t, nil)
		fn.Bootstrap = filepath.Join(t.TempDir(), "missing")
		wantInitError(t, fn, RuntimeInvalidEntrypoint)
	})
	t.Run("exits", func(t *testing.T) {
		t.Parallel()
		wantInitError(t, function(t, map[string]string{"bootstrap": "exit 4"}), RuntimeExitError)
	})
	t.Run("says why", func(t *testing.T) {
		t.Parallel()
		failed := wantInitError(t, function(t, map[string]string{"bootstrap": "runtimeerror Runtime.NoHandler; exit 1"}), "Runtime.NoHandler")
		if failed.Source != SourceRuntime || failed.Reported.Message != "told you so" {
			t.Errorf("fault %+v", failed.Fault)
		}
	})
}

func TestARuntimeThatExitsFailsItsInvocation(t *testing.T) {
	t.Parallel()
	s := start(t, function(t, map[string]string{extension: "register SHUTDOWN; loop"}), Options{})
	if pids := s.PIDs(); len(pids) != 2 || pids[0] != s.ExtensionPID(extension) || pids[1] != s.RuntimePID() || s.ExtensionPID("other") != 0 {
		t.Errorf("process ids %v, extension %d, runtime %d", pids, s.ExtensionPID(extension), s.RuntimePID())
	}
	if f := wantFault(t, s, `{"do":"exit"}`, RuntimeExitError); f.Message != "exit status 7" {
		t.Errorf("fault %+v", f)
	}
	waitLine(t, s, extension, `"shutdownReason":"FAILURE"`)
	if r := invoke(t, s, `{}`); !r.ColdStart {
		t.Errorf("result %+v", r)
	}
}

// The function timeout bounds the invocation; a reset follows.
func TestAnInvocationPastTheTimeoutResetsTheSandbox(t *testing.T) {
	t.Parallel()
	fn := function(t, map[string]string{extension: "register SHUTDOWN; loop"})
	fn.Timeout = time.Second
	s := start(t, fn, Options{})
	if f := wantFault(t, s, `{"do":"hang"}`, SandboxTimedout); f.Message != "Task timed out after 1.00 seconds" {
		t.Errorf("fault %+v", f)
	}
	s.function.Timeout = 20 * time.Second // Init has to be run again in it
	waitLine(t, s, extension, `"shutdownReason":"TIMEOUT"`)
	if r := invoke(t, s, `{}`); !r.ColdStart {
		t.Errorf("result %+v", r)
	}
}

// Extensions share the function timeout, but the answer is out already.
func TestAnExtensionPastTheTimeoutResetsTheSandboxAfterTheResponse(t *testing.T) {
	t.Parallel()
	never, _ := later(t)
	fn := function(t, map[string]string{extension: "register INVOKE; loop " + never})
	fn.Timeout = 2 * time.Second // in which the function has to answer
	s := start(t, fn, Options{})
	died := s.Died()
	invoke(t, s, `{}`)
	select {
	case <-died:
	case <-time.After(waittest.Patience):
		t.Fatal("the timeout did not end it")
	}
	s.function.Timeout = 20 * time.Second // Init has to be run again in it
	if r := invoke(t, s, `{}`); !r.ColdStart {
		t.Errorf("result %+v", r)
	}
}

// A failed Init is run again by the first invocation.
func TestAFailedInitIsRunAgainByTheFirstInvocation(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "mark")
	s := start(t, function(t, map[string]string{extension: "exitonce " + mark + "; register SHUTDOWN; loop"}), Options{SuppressInitError: true})
	if s.Err() == nil {
		t.Error("the failed Init is not told")
	}
	if r := invoke(t, s, `{}`); !r.ColdStart || s.Err() != nil {
		t.Errorf("result %+v, Err %v", r, s.Err())
	}
}

func TestAnInitThatFailsAgainFailsTheInvocation(t *testing.T) {
	t.Parallel()
	s := start(t, function(t, map[string]string{extension: "exit 1"}), Options{SuppressInitError: true})
	for range 2 {
		_, err := s.Invoke(t.Context(), nil)
		var failed *InitError
		if !errors.As(err, &failed) || failed.Type != ExtensionCrash || !failed.Report.Suppressed {
			t.Errorf("got %v", err)
		}
	}
}

// R14: a freeze stops every thread, and a thaw continues them.
func TestAFrozenProcessMakesNoProgress(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "count")
	s := start(t, function(t, map[string]string{extension: "count " + file + "; register SHUTDOWN; loop"}), Options{})
	counted := func() string { b, _ := os.ReadFile(file); return string(b) }
	advances := func() {
		t.Helper()
		from := counted()
		waittest.Until(t, "the counter advances", func() bool { return counted() > from })
	}
	advances()
	for range 3 {
		if err := s.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		at := counted()
		for _, pid := range s.PIDs() {
			if ok, err := stopped(pid); !ok || err != nil {
				t.Errorf("process %d runs: %v", pid, err)
			}
		}
		<-time.After(30 * time.Millisecond) // time in which it would have counted thousands
		if got := counted(); got != at {
			t.Errorf("counted from %s to %s while frozen", at, got)
		}
		if err := s.Freeze(t.Context()); err != nil {
			t.Errorf("freezing twice: %v", err)
		}
		if err := s.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		advances()
	}
}

func TestAnInvocationThawsAndAutoFreezeFreezesAgain(t *testing.T) {
	t.Parallel()
	s := start(t, function(t, map[string]string{extension: "register SHUTDOWN; loop"}), Options{AutoFreeze: true})
	for range 3 {
		invoke(t, s, `{}`)
		waittest.Until(t, "every process is stopped", func() bool {
			for _, pid := range s.PIDs() {
				if ok, _ := stopped(pid); !ok {
					return false
				}
			}
			return true
		})
	}
}

// R16: the runtime has ended before extensions are told.
func TestShutdownEndsTheRuntimeBeforeItTellsExtensions(t *testing.T) {
	t.Parallel()
	for _, frozen := range []bool{false, true} {
		t.Run("frozen="+strconv.FormatBool(frozen), func(t *testing.T) {
			t.Parallel()
			fn := function(t, map[string]string{
				extension:   "register INVOKE,SHUTDOWN; loop",
				"deaf":      "register INVOKE; loop",
				"bootstrap": "onterm; handler",
			})
			fn.ShutdownLimit = 20 * time.Second // nothing here is meant to meet it
			s := start(t, fn, Options{AutoFreeze: frozen})
			invoke(t, s, `{}`)
			before := time.Now()
			r, err := s.Shutdown(t.Context(), ReasonSpindown)
			if err != nil {
				t.Fatal(err)
			}
			runtime, _ := r.Exit(SourceRuntime)
			ext, _ := r.Exit(extension)
			deaf, _ := r.Exit("deaf")
			told := r.Notified[extension]
			if runtime.Code != 0 || runtime.Killed || !hasLine(s.Logs(), SourceRuntime, "terminated") {
				t.Errorf("the runtime had no SIGTERM: %+v", runtime)
			}
			if told.IsZero() || told.Before(runtime.Time) || ext.Time.Before(told) {
				t.Errorf("runtime ended %v, SHUTDOWN taken %v, extension ended %v", runtime.Time, told, ext.Time)
			}
			if ext.Code != 0 || ext.Killed {
				t.Errorf("the extension was not left to end: %+v", ext)
			}
			if !deaf.Killed || deaf.Signal != syscall.SIGKILL {
				t.Errorf("an extension without SHUTDOWN: %+v", deaf)
			}
			l := waitLine(t, s, extension, `"eventType":"SHUTDOWN","deadlineMs":`+strconv.FormatInt(r.Deadline.UnixMilli(), 10))
			if !strings.Contains(l.Text, `"shutdownReason":"SPINDOWN"`) {
				t.Errorf("event %s", l.Text)
			}
			if window := r.Deadline.Sub(r.Started); window != fn.ShutdownLimit || r.Started.Before(before) {
				t.Errorf("window %v", window)
			}
			if _, err := s.Invoke(t.Context(), nil); !errors.Is(err, ErrEnded) {
				t.Errorf("Invoke after Shutdown: %v", err)
			}
			if _, err := s.Shutdown(t.Context(), ReasonSpindown); !errors.Is(err, ErrEnded) {
				t.Errorf("a second Shutdown: %v", err)
			}
		})
	}
}

// 30 % of the window for the runtime, then SIGKILL; the rest for extensions.
func TestShutdownKillsAtItsDeadlines(t *testing.T) {
	t.Parallel()
	fn := function(t, map[string]string{
		extension:   "register SHUTDOWN; next; hang",
		"bootstrap": "ignoreterm; handler",
	})
	fn.ShutdownLimit = 4 * time.Second
	s := start(t, fn, Options{})
	r, err := s.Shutdown(t.Context(), ReasonSpindown)
	if err != nil {
		t.Fatal(err)
	}
	runtime, _ := r.Exit(SourceRuntime)
	ext, _ := r.Exit(extension)
	if after := runtime.Time.Sub(r.Started); !runtime.Killed || after < fn.ShutdownLimit*3/10 || !runtime.Time.Before(r.Deadline) {
		t.Errorf("the runtime was killed (%v) after %v, want 30 %% of %v", runtime.Killed, after, fn.ShutdownLimit)
	}
	if !ext.Killed || ext.Time.Before(r.Deadline) || r.Notified[extension].IsZero() {
		t.Errorf("the extension: %+v, deadline %v", ext, r.Deadline)
	}
}

func TestShutdownEndsAtOnceWhenItsContextDoes(t *testing.T) {
	t.Parallel()
	fn := function(t, map[string]string{extension: "register SHUTDOWN; next; hang"})
	fn.ShutdownLimit = time.Hour
	s := start(t, fn, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := s.Shutdown(ctx, ReasonSpindown)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if e, ok := r.Exit(extension); !ok || !e.Killed {
		t.Errorf("exit %+v", e)
	}
}

// 2 s, 500 ms or nothing.
func TestTheShutdownWindowDependsOnTheKindOfExtensions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		external []string
		internal string
		want     time.Duration
	}{
		{nil, "", 0},
		{nil, "GoLangEnableSIGTERM", internalWindow},
		{[]string{extension}, "", externalWindow},
		{[]string{extension}, "GoLangEnableSIGTERM", externalWindow},
	} {
		d := newDomain(test.external, false)
		if test.internal != "" {
			if _, refused := d.register(test.internal, nil); refused != nil {
				t.Fatal(refused)
			}
		}
		if got := d.defaultWindow(); got != test.want {
			t.Errorf("%v and %q: %v, want %v", test.external, test.internal, got, test.want)
		}
	}
}

// An internal extension (what aws-lambda-go's SIGTERM option registers)
// gives the runtime its SIGTERM; without any extension there is only SIGKILL.
func TestTheRuntimeIsAskedToEndOnlyIfThereAreExtensions(t *testing.T) {
	t.Parallel()
	t.Run("internal", func(t *testing.T) {
		t.Parallel()
		fn := function(t, map[string]string{"bootstrap": "handlersigterm"})
		fn.ShutdownLimit = 20 * time.Second // nothing here is meant to meet it
		s := start(t, fn, Options{})
		r, err := s.Shutdown(t.Context(), ReasonSpindown)
		if err != nil {
			t.Fatal(err)
		}
		if e, _ := r.Exit(SourceRuntime); e.Code != 0 || e.Killed {
			t.Errorf("exit %+v", e)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := start(t, function(t, map[string]string{"bootstrap": "onterm; handler"}), Options{})
		r, err := s.Shutdown(t.Context(), ReasonSpindown)
		if err != nil {
			t.Fatal(err)
		}
		if e, _ := r.Exit(SourceRuntime); !e.Killed {
			t.Errorf("exit %+v", e)
		}
	})
}

func TestKillLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, frozen := range []bool{false, true} {
		t.Run("frozen="+strconv.FormatBool(frozen), func(t *testing.T) {
			t.Parallel()
			s := start(t, function(t, map[string]string{extension: "child; register SHUTDOWN; loop"}), Options{})
			child, err := strconv.Atoi(strings.TrimPrefix(waitLine(t, s, extension, "child ").Text, "child "))
			if err != nil {
				t.Fatal(err)
			}
			pids := append(s.PIDs(), child)
			if frozen {
				if err := s.Freeze(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			s.Kill()
			s.Kill()
			for _, pid := range pids {
				waittest.Until(t, "process "+strconv.Itoa(pid)+" is gone", func() bool { return gone(pid) })
			}
			if hasLine(s.Logs(), extension, "SHUTDOWN") {
				t.Error("a killed sandbox told its extension")
			}
			if err := s.Freeze(t.Context()); !errors.Is(err, ErrEnded) {
				t.Errorf("Freeze after Kill: %v", err)
			}
		})
	}
}

func TestKillEndsCallsUnderWay(t *testing.T) {
	t.Parallel()
	s := start(t, function(t, map[string]string{extension: "register INVOKE,SHUTDOWN; loop"}), Options{})
	errs := make(chan error, 2)
	var calls sync.WaitGroup
	for range cap(errs) {
		calls.Go(func() {
			_, err := s.Invoke(t.Context(), []byte(`{"do":"hang"}`))
			errs <- err
		})
	}
	waitLine(t, s, extension, "INVOKE")
	s.Kill()
	calls.Wait()
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, ErrEnded) {
			t.Errorf("Invoke returned %v", err)
		}
	}
}

func TestKillEndsAnInitUnderWay(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "mark")
	s := start(t, function(t, map[string]string{extension: "exitonce " + mark + "; register SHUTDOWN; hang"}), Options{SuppressInitError: true})
	failed := make(chan error, 1)
	go func() {
		_, err := s.Invoke(t.Context(), nil)
		failed <- err
	}()
	waitLine(t, s, extension, "register 200")
	s.Kill()
	if err := <-failed; !errors.Is(err, ErrEnded) {
		t.Errorf("Invoke returned %v", err)
	}
	for _, pid := range s.PIDs() {
		if !gone(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
}

func TestAnInvokersContextDoesNotEndTheInvocation(t *testing.T) {
	t.Parallel()
	done, finish := later(t)
	s := start(t, function(t, map[string]string{"tail": "register INVOKE; loop " + done}), Options{})
	invoke(t, s, `{}`) // the extension is at work: the next one waits
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Invoke(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	finish()
	if r := invoke(t, s, `{"text":"fine"}`); r.ColdStart || !strings.Contains(string(r.Payload), "fine") {
		t.Errorf("result %+v", r)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s, err := Start(ctx, function(t, map[string]string{extension: "hang"}), Options{})
	if s != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestStartRefusesAFunctionThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, fn := range map[string]Function{
		"no bootstrap":     {},
		"two of one name":  {Bootstrap: "/b", Extensions: []string{"/one/ext", "/two/ext"}},
		"negative timeout": {Bootstrap: "/b", Timeout: -1},
	} {
		if s, err := Start(t.Context(), fn, Options{}); err == nil {
			s.Kill()
			t.Errorf("%s: accepted", name)
		}
	}
}

// What an extension sees and what only the runtime does.
func TestExtensionsDoNotSeeTheRuntimesVariables(t *testing.T) {
	t.Parallel()
	fn := function(t, map[string]string{
		extension:   "environment; register SHUTDOWN; loop",
		"bootstrap": "environment; handler",
	})
	fn.MemoryMB = 512
	fn.Env["USER_VARIABLE"] = "mine"
	fn.Env["AWS_REGION"] = "nowhere"
	fn.Env["_HIDDEN"] = "mine"
	fn.Env["AWS_XRAY_CONTEXT_MISSING"] = "mine"
	fn.Env["AWS_LAMBDA_LOG_GROUP_NAME"] = "mine"
	s := start(t, fn, Options{SessionToken: "token"})
	waitLine(t, s, extension, "environment ends")
	waitLine(t, s, SourceRuntime, "environment ends")

	both := []string{
		"AWS_LAMBDA_RUNTIME_API=" + s.APIAddress(), "AWS_REGION=us-east-1", "AWS_LAMBDA_FUNCTION_NAME=orders",
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512", "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=",
		"AWS_SESSION_TOKEN=token", "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand", "USER_VARIABLE=mine", "TZ=:UTC",
	}
	runtimeOnly := []string{
		"_HANDLER=bootstrap", "LAMBDA_TASK_ROOT=" + filepath.Dir(fn.Bootstrap), "LAMBDA_RUNTIME_DIR=", "AWS_EXECUTION_ENV=",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/orders", "AWS_LAMBDA_LOG_STREAM_NAME=", "_HIDDEN=mine", "AWS_XRAY_CONTEXT_MISSING=mine",
	}
	for _, v := range both {
		if !hasLine(s.Logs(), extension, "environment "+v) || !hasLine(s.Logs(), SourceRuntime, "environment "+v) {
			t.Errorf("not in both environments: %s", v)
		}
	}
	for _, v := range runtimeOnly {
		name, _, _ := strings.Cut(v, "=")
		if hasLine(s.Logs(), extension, "environment "+name+"=") || !hasLine(s.Logs(), SourceRuntime, "environment "+v) {
			t.Errorf("not in the runtime's environment alone: %s", v)
		}
	}
	if home := os.Getenv("HOME"); home != "" && hasLine(s.Logs(), extension, "environment HOME=") {
		t.Error("the host's environment is passed on")
	}
}

func TestPrepareSeesEveryCommandBeforeItStarts(t *testing.T) {
	t.Parallel()
	var seen []string // Prepare is not called concurrently
	fn := function(t, map[string]string{extension: "register SHUTDOWN; loop"})
	start(t, fn, Options{Prepare: func(c *exec.Cmd) {
		if c.Process == nil && c.SysProcAttr.Setpgid {
			seen = append(seen, filepath.Base(c.Path))
		}
	}})
	if got := strings.Join(seen, " "); got != extension+" bootstrap" {
		t.Errorf("prepared %s", got)
	}
}

// The thread that starts a process is tied to the sandbox's life, so that the
// kernel ends the processes with this program and not before it.
func TestNoProcessOutlivesAKilledLab(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lab := exec.Command(self)
	lab.Args[0] = "lab"
	lab.Env = []string{"LAMBDASIM_HELPER=1", "SCRIPT_lab=lab", "TMPDIR=" + t.TempDir()}
	lab.Stderr = os.Stderr
	out, err := lab.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Process.Kill(); _ = lab.Wait() })
	var pids []int
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "up" {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(lines.Text())
		}
		pids = append(pids, pid)
	}
	if len(pids) != 2 {
		t.Fatalf("the lab runs %v", pids)
	}
	_ = lab.Process.Kill()
	for _, pid := range pids {
		waittest.Until(t, "process "+strconv.Itoa(pid)+" is gone", func() bool { return gone(pid) })
	}
}
