// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/labtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// The tests in the files e2e_*_test.go run the shipped binary, unmodified, in the lab. Each names the rules that it
// guards. What they cannot do is left to tests in one process, with a clock that is moved:
//
//   - R19 after a freeze of 300 s, R14 for hours: proxy/sweep_test.go, tlsstate's tests. A real freeze here takes seconds.
//   - R1's table of unfit certificates, R2, R3, R15: tlsstate's tests.
//
// Every defect of the predecessor's data plane that was seen has its test:
//
//	any mesh certificate is accepted for any upstream       TestAnotherServicesCertificateIsRefused
//	the first end of file closes both directions            TestAHalfCloseIsCarriedInBothDirections
//	a stream cut without close_notify looks complete        TestACutStreamReachesTheFunctionAsAResetAfterItsBytes
//	a black-holed gateway hangs a connection                TestAMeshThatCannotBeReachedIsAResetWithinTheDialTimeout
//	it listens on every interface                           TestByDefaultOnlyLoopbackIsListenedOn
//	SHUTDOWN cuts connections in flight                     TestWhatTheFunctionSentJustBeforeTheEndArrives
//	an expired leaf fails the first connection after a thaw TestTheFirstCallAfterAFreezeLongerThanTheLeafsLifeSucceeds
//	a bad configuration is not reported                     TestInvalidConfigurationIsReportedAndEndsInit
//	a missing parameter ends the process                    TestAFunctionStartsWithoutItsParameterAndHeals
//	the datacenter of the server name is a constant         TestTheDatacenterIsThatOfTheLeaf
//	there is one gateway only                               TestASecondGatewayTakesOver
//	an unreachable mesh looks like a clean end of stream    TestAMeshThatCannotBeReachedIsAResetWithinTheDialTimeout
//	PEM is parsed on every connection, under a lock         tlsstate: the allocation tests of a dial

// patience bounds whatever should happen soon.
const patience = waittest.Patience

// Most of these tests wait most of the time. With so many slots the longest one begins soon, in whatever order they are begun.
func TestMain(m *testing.M) { labtest.Main(m, 12) }

// programs builds what is shipped, or the extension with the race detector.
func programs(t testing.TB) lab.Programs {
	t.Helper()
	return labtest.Programs(t, lab.BuildOptions{Race: labtest.Race()})
}

func newWorld(t testing.TB, cfg lab.Config) *lab.World {
	t.Helper()
	cfg.Programs = programs(t)
	w, err := lab.New(t.Context(), cfg)
	ok(t, err)
	t.Cleanup(func() { ok(t, w.Close()) })
	return w
}

// env is a change to the function's environment.
type env map[string]string

// start runs a cold start, which must succeed.
func start(t testing.TB, w *lab.World, changes env) *lambdasim.Sandbox {
	t.Helper()
	return startFunction(t, w, function(w, changes))
}

func function(w *lab.World, changes env) lambdasim.Function {
	fn := w.Function()
	fn.Env["GORACE"] = "atexit_sleep_ms=0" // else every exit takes 1 s under the race detector
	for name, value := range changes {
		fn.Env[name] = value
	}
	return fn
}

func startFunction(t testing.TB, w *lab.World, fn lambdasim.Function) *lambdasim.Sandbox {
	t.Helper()
	box, err := w.ColdStart(t.Context(), fn)
	if err != nil {
		var failed *lambdasim.InitError
		if errors.As(err, &failed) {
			t.Log(text(failed.Logs))
		}
		t.Fatal(err)
	}
	mind(t, w, box)
	return box
}

// mind ends the sandbox with the test, and looks at what it logged.
func mind(t testing.TB, w *lab.World, box *lambdasim.Sandbox) {
	t.Helper()
	t.Cleanup(func() {
		box.Kill()
		checkLogs(t, w, box.Logs())
		if t.Failed() {
			t.Log(text(box.Logs()))
		}
	})
}

// checkLogs holds for all that the processes of any test have written: the extension writes JSON (R18), no secret is in
// it (R18), and nothing panicked (R12) or raced.
func checkLogs(t testing.TB, w *lab.World, lines []lambdasim.Line) {
	t.Helper()
	secrets := w.Secrets()
	for _, l := range lines {
		for _, s := range secrets {
			if strings.Contains(l.Text, s) {
				t.Errorf("a secret was logged: %s", l.Text)
			}
		}
		if strings.Contains(l.Text, "panic") || strings.Contains(l.Text, "DATA RACE") || strings.Contains(l.Text, "goroutine ") {
			t.Errorf("logged: %s", l.Text)
		}
		if l.Source == lab.ExtensionName && !l.Stderr && !json.Valid([]byte(l.Text)) {
			t.Errorf("a log line is not JSON: %s", l.Text)
		}
	}
}

func text(lines []lambdasim.Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s: %s\n", l.Source, l.Text)
	}
	return b.String()
}

// count is the number of the extension's lines that have all the parts.
func count(lines []lambdasim.Line, parts ...string) (n int) {
	for _, l := range lines {
		if l.Source == lab.ExtensionName && hasAll(l.Text, parts) {
			n++
		}
	}
	return n
}

func hasAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// awaitLog waits until there are n such lines.
func awaitLog(t testing.TB, box *lambdasim.Sandbox, n int, parts ...string) {
	t.Helper()
	waittest.Until(t, fmt.Sprintf("%d log lines with %q", n, parts), func() bool { return count(box.Logs(), parts...) >= n })
}

// awaitGeneration waits until the extension uses its nth set of credentials.
func awaitGeneration(t testing.TB, box *lambdasim.Sandbox, n int) {
	t.Helper()
	awaitLog(t, box, n, `"credentials in use"`)
}

// connect connects as the function does. Reads and writes are bounded; the connection is closed with the test.
func connect(t testing.TB, w *lab.World, service string) *net.TCPConn {
	t.Helper()
	c, err := tryConnect(t, w, service)
	ok(t, err)
	return c
}

// tryConnect is connect where a reset may come before connect has returned.
func tryConnect(t testing.TB, w *lab.World, service string) (*net.TCPConn, error) {
	t.Helper()
	c, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", w.Addr(service))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	ok(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn), nil
}

// wantReset reads on until the connection is reset, and returns what came before.
func wantReset(t testing.TB, c net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after %d bytes the connection ended with %v, want a reset", len(b), err)
	}
	return b
}

// refused connects, sends something, and wants a reset before any answer. It may come before connect has returned.
func refused(t testing.TB, w *lab.World, service string) {
	t.Helper()
	c, err := tryConnect(t, w, service)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	ok(t, err)
	if _, err := io.WriteString(c, "is anybody there?"); errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return
	}
	if b := wantReset(t, c); len(b) > 0 {
		t.Errorf("%q came from a service that cannot answer", b)
	}
}

// greeting is what the service Greeter says of a new connection.
func greeting(t testing.TB, w *lab.World) lab.Hello {
	t.Helper()
	h, err := tryGreeting(connect(t, w, lab.Greeter))
	ok(t, err)
	return h
}

func tryGreeting(c net.Conn) (h lab.Hello, err error) {
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		return h, err
	}
	_ = c.Close()
	return h, json.Unmarshal(line, &h)
}

// works demands that a new connection through the mesh carries bytes.
func works(t testing.TB, w *lab.World) {
	t.Helper()
	if h := greeting(t, w); h.Caller != w.FunctionID().String() {
		t.Errorf("the service was called by %s, want %s", h.Caller, w.FunctionID())
	}
}

// heals demands that new connections through the mesh carry bytes again. The first ones may not: a dial timeout that a test has
// shortened is short for a busy machine.
func heals(t testing.TB, w *lab.World) {
	t.Helper()
	waittest.Until(t, "a connection that works", func() bool {
		c, err := tryConnect(t, w, lab.Greeter)
		if err == nil {
			_, err = tryGreeting(c)
		}
		return err == nil
	})
}

// call and result are those of the function's event: see examples/mesh-function.
type call struct {
	HTTP      string `json:"http,omitempty"`
	TCP       string `json:"tcp,omitempty"`
	Send      string `json:"send,omitempty"`
	SendBytes int64  `json:"sendBytes,omitempty"`
	DripMS    int    `json:"dripMs,omitempty"`
}

type result struct {
	Status       int     `json:"status"`
	Reused       bool    `json:"reused"`
	Milliseconds float64 `json:"ms"`
	Body         string  `json:"body"`
	Bytes        int64   `json:"bytes"`
	SHA256       string  `json:"sha256"`
	SentBytes    int64   `json:"sentBytes"`
	SentSHA256   string  `json:"sentSha256"`
	Error        string  `json:"error"`
}

// invoke makes the function do the calls, all at a time.
func invoke(t testing.TB, box *lambdasim.Sandbox, calls ...call) []result {
	t.Helper()
	results, err := tryInvoke(t.Context(), box, calls...)
	ok(t, err)
	return results
}

func tryInvoke(ctx context.Context, box *lambdasim.Sandbox, calls ...call) ([]result, error) {
	event, err := json.Marshal(map[string]any{"calls": calls, "parallel": len(calls)})
	if err != nil {
		return nil, err
	}
	answer, err := box.Invoke(ctx, event)
	if err != nil {
		return nil, err
	}
	var response struct{ Results []result }
	return response.Results, errors.Join(json.Unmarshal(answer.Payload, &response), func() error {
		if answer.FunctionError != "" {
			return fmt.Errorf("the function failed: %s", answer.Payload)
		}
		return nil
	}())
}

// shutDown ends the sandbox and returns how the extension ended.
func shutDown(t testing.TB, box *lambdasim.Sandbox) (lambdasim.ShutdownReport, lambdasim.Exit) {
	t.Helper()
	report, err := box.Shutdown(context.WithoutCancel(t.Context()), lambdasim.ReasonSpindown)
	ok(t, err)
	exit, found := report.Exit(lab.ExtensionName)
	if !found {
		t.Fatal("the extension never ran")
	}
	return report, exit
}

// addService starts a service and makes it an upstream.
func addService(t testing.TB, w *lab.World, name string, port int, cfg meshsim.SidecarConfig) *meshsim.Sidecar {
	t.Helper()
	s, err := w.AddService(name, port, cfg)
	ok(t, err)
	return s
}

func storeLeaf(t testing.TB, w *lab.World, ttl time.Duration) *meshsim.Leaf {
	t.Helper()
	leaf, err := w.StoreLeaf(ttl)
	ok(t, err)
	return leaf
}

// ending is how something ended that a test began, and how long after.
type ending struct {
	err   error
	after time.Duration
}

// meanwhile begins what is mostly one long wait, for a test that calls t.Parallel only then: the wait passes beside the serial tests
// that follow, and those that measure time are not disturbed by it.
func meanwhile(f func() error) <-chan ending {
	ended, begin := make(chan ending, 1), time.Now()
	go func() {
		err := f()
		ended <- ending{err, time.Since(begin)}
	}()
	return ended
}

// until waits for a time that has to pass.
func until(t testing.TB, at time.Time) {
	t.Helper()
	waittest.Until(t, at.String(), func() bool { return time.Now().After(at) })
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
