// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/labtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// standalone is the extension alone, with an Extensions API that the test answers.
type standalone struct {
	cmd        *exec.Cmd
	registered chan []byte   // the body of register, which is answered after proceed
	proceed    chan struct{} // closed by the test
	ready      chan struct{} // closed at the first Next, which stays unanswered
	stdout     bytes.Buffer
}

func startAlone(t testing.TB, w *lab.World) *standalone {
	t.Helper()
	s := &standalone{registered: make(chan []byte, 1), proceed: make(chan struct{}), ready: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", func(rw http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		s.registered <- body.Bytes()
		select {
		case <-s.proceed:
		case <-r.Context().Done():
		}
		rw.Header().Set("Lambda-Extension-Identifier", "5b9f1f0c-4f52-4d3e-9a4a-6f5b7a1c2d3e")
		_, _ = rw.Write([]byte(`{"functionName":"checkout","functionVersion":"$LATEST","handler":"bootstrap"}`))
	})
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(_ http.ResponseWriter, r *http.Request) {
		close(s.ready)
		<-r.Context().Done()
	})
	api := httptest.NewServer(mux)
	t.Cleanup(api.Close)

	fn, role := function(w, nil), w.Options()
	s.cmd = exec.Command(fn.Extensions[0])
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stdout
	for name, value := range fn.Env {
		s.cmd.Env = append(s.cmd.Env, name+"="+value)
	}
	s.cmd.Env = append(s.cmd.Env, "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(api.URL, "http://"), "AWS_LAMBDA_FUNCTION_NAME="+fn.Name,
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID="+role.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+role.SecretAccessKey, "AWS_SESSION_TOKEN="+role.SessionToken)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ok(t, s.cmd.Start())
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
		if t.Failed() {
			t.Log(s.stdout.String())
		}
	})
	return s
}

func await[T any](t testing.TB, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("not in time: %s", what)
	}
	return v
}

// R10: configuration, listeners, register, store, Next; the first log line says which version this is. R11: SHUTDOWN only.
func TestTheOrderOfAStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	ext := startAlone(t, w)
	var body struct{ Events []string }
	ok(t, json.Unmarshal(await(t, "register", ext.registered), &body))
	if !slices.Equal(body.Events, []string{"SHUTDOWN"}) {
		t.Errorf("registered for %v, want SHUTDOWN only", body.Events)
	}
	// Registering: the function could be connecting now. The kernel accepts for a listener that is bound.
	waiting := connect(t, w, lab.Greeter)
	until(t, time.Now().Add(50*time.Millisecond)) // in which the store would have been asked
	if n := w.Store.Count(""); n != 0 {
		t.Errorf("the store was asked %d times before register was answered", n)
	}
	close(ext.proceed)
	await(t, "Next", ext.ready)
	if n := w.Store.Count("GetParameter"); n != 1 {
		t.Errorf("the store was asked %d times before Next, want once", n)
	}
	if _, err := tryGreeting(waiting); err != nil {
		t.Errorf("the connection from before register: %v", err)
	}

	ok(t, ext.cmd.Process.Signal(syscall.SIGTERM)) // R16
	if err := ext.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v, want exit 0", err)
	}
	first, _, _ := strings.Cut(ext.stdout.String(), "\n")
	var line struct{ Msg, Version string }
	if err := json.Unmarshal([]byte(first), &line); err != nil || line.Version == "" || !strings.Contains(line.Msg, "starts") {
		t.Errorf("the first log line is %q, want one that tells the version", first)
	}
}

// R10, R11, R13: in a sandbox, with a function. The extension is ready before the function's first call, which finds a
// connection that is open.
func TestAColdStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, env{"TRACE_ENABLED": "true"})
	report := box.Init().Extensions[0]
	if !slices.Equal(report.Events, []string{"SHUTDOWN"}) {
		t.Errorf("registered for %v, want SHUTDOWN only", report.Events)
	}
	works(t, w)
	shutDown(t, box) // and all of the log has been read
	for _, step := range []string{"listening", "registered", "credentials", "ready"} {
		if count(box.Logs(), `"start-up"`, `"step":"`+step+`"`) != 1 {
			t.Errorf("TRACE_ENABLED gives no timing of %q", step)
		}
	}
	starts, credentials := indexOf(box.Logs(), "extension starts"), indexOf(box.Logs(), "credentials in use")
	if listening := indexOf(box.Logs(), `"listening"`); starts != 0 || listening < starts || credentials < listening {
		t.Errorf("order of the log: starts %d, listening %d, credentials %d", starts, listening, credentials)
	}
}

func indexOf(lines []lambdasim.Line, part string) int {
	return slices.IndexFunc(lines, func(l lambdasim.Line) bool { return strings.Contains(l.Text, part) })
}

// R12: what is wrong is told, all of it, each with its variable and value; after register, so that there is somebody to
// tell; and the process fails.
func TestInvalidConfigurationIsReportedAndEndsInit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	taken, err := net.Listen("tcp", net.JoinHostPort(w.Host, "7999"))
	ok(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	for name, wrong := range map[string]env{
		"one value":    {"CONSUL_REFRESH_FREQUENCY": "soon"},
		"three values": {"CONSUL_MESH_GATEWAY_URI": "https://gw:1", "CONSUL_EXTENSION_MAX_CONNECTIONS": "many", "CONSUL_SERVICE_UPSTREAMS": "db"},
		"a taken port": {"CONSUL_SERVICE_UPSTREAMS": "web:7999"},
		"a region":     {"AWS_ENDPOINT_URL_SSM": "nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			box, err := w.ColdStart(t.Context(), function(w, wrong))
			if err == nil {
				box.Kill()
				t.Fatal("Init succeeded")
			}
			var failed *lambdasim.InitError
			if !errors.As(err, &failed) || failed.Type != lambdasim.ExtensionInitError || failed.Reported == nil {
				t.Fatalf("Init failed with %v, want a report by the extension", err)
			}
			checkLogs(t, w, failed.Logs)
			if failed.Reported.Type != "Extension.ConfigInvalid" {
				t.Errorf("reported as %q", failed.Reported.Type)
			}
			for variable, value := range wrong {
				if !hasAll(failed.Reported.Message, []string{variable, value}) {
					t.Errorf("the report does not name %s and %q: %s", variable, value, failed.Reported.Message)
				}
			}
			if failed.Report.Extensions[0].Registered == 0 {
				t.Error("it never registered")
			}
			if exit, _ := failed.Shutdown.Exit(lab.ExtensionName); exit.Code <= 0 || exit.Killed {
				t.Errorf("it ended with %+v, want an exit code above 0", exit)
			}
		})
	}
}

// R12, R9: without a document the function starts; its connections are reset within the dial timeout; and all heals when
// the document is there.
func TestAFunctionStartsWithoutItsParameterAndHeals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	w.Store.Delete(w.ParameterPath())
	box := start(t, w, env{"CONSUL_EXTENSION_DIAL_TIMEOUT": "300ms"})
	asked := time.Now()
	refused(t, w, lab.Echo)
	if took := time.Since(asked); took >= 2*time.Second { // the default
		t.Errorf("the reset took %v, want 300 ms", took)
	}
	awaitLog(t, box, 1, "no credentials yet")
	awaitLog(t, box, 1, "starts before there are credentials")
	storeLeaf(t, w, 0)
	awaitGeneration(t, box, 1)
	heals(t, w)
	if err := box.Err(); err != nil {
		t.Error(err)
	}
}

// R13: a store that does not answer holds Init up for 2 s, no longer; in strict mode longer.
func TestAStoreThatHangs(t *testing.T) {
	t.Parallel()
	t.Run("delays Next by 2 s at the most", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, lab.Config{})
		w.Store.FailAll("", ssmsim.Hang())
		box := start(t, w, env{"CONSUL_EXTENSION_DIAL_TIMEOUT": "100ms"})
		if ready := box.Init().Extensions[0].Ready; ready < 1800*time.Millisecond || ready > 4*time.Second {
			t.Errorf("Next was called after %v, want about 2 s", ready)
		}
		refused(t, w, lab.Echo)
		w.Store.Heal()
		w.Store.Release()
		awaitGeneration(t, box, 1)
		heals(t, w)
	})
	t.Run("is waited for in strict mode", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, lab.Config{})
		w.Store.SetLatency("", 2500*time.Millisecond)
		// The first read is given up after 2 s, in which Parameter Store always answers; the next one finds it well.
		healed := time.AfterFunc(time.Second, func() { w.Store.SetLatency("", 0) })
		defer healed.Stop()
		start(t, w, env{"CONSUL_EXTENSION_STRICT": "true"})
		works(t, w)
	})
}

// R13: in strict mode a store that does not answer fails Init, after 8 s.
func TestAStoreThatHangsFailsInitInStrictMode(t *testing.T) {
	w := newWorld(t, lab.Config{})
	w.Store.FailAll("", ssmsim.Hang())
	fn := function(w, env{"CONSUL_EXTENSION_STRICT": "true"})
	ended := meanwhile(func() error {
		box, err := w.ColdStart(t.Context(), fn)
		if err == nil {
			box.Kill()
		}
		return err
	})
	t.Parallel()
	end := await(t, "the end of Init", ended)
	if end.err == nil {
		t.Fatal("Init succeeded")
	}
	var failed *lambdasim.InitError
	if !errors.As(end.err, &failed) || failed.Reported == nil || !strings.Contains(failed.Reported.Message, "CONSUL_EXTENSION_STRICT") {
		t.Fatalf("Init failed with %v, want a report that names CONSUL_EXTENSION_STRICT", end.err)
	}
	if end.after < 7*time.Second || end.after > 10*time.Second {
		t.Errorf("it took %v, want about 8 s and less than Lambda's 10 s", end.after)
	}
	if exit, _ := failed.Shutdown.Exit(lab.ExtensionName); exit.Code <= 0 || exit.Killed {
		t.Errorf("it ended with %+v, want an exit code above 0", exit)
	}
	checkLogs(t, w, failed.Logs)
}

// Nothing to do: nothing is listened to, and nothing is read from the store.
func TestWithoutUpstreamsNothingIsListenedToOrRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, env{"CONSUL_SERVICE_UPSTREAMS": ""})
	if got := listeners(t, box.ExtensionPID(lab.ExtensionName)); len(got) > 0 {
		t.Errorf("it listens on %v", got)
	}
	if _, exit := shutDown(t, box); exit.Code != 0 {
		t.Errorf("exit code %d", exit.Code)
	}
	if n := w.Store.Count(""); n > 0 {
		t.Errorf("the store was asked %d times", n)
	}
}

// The predecessor listened on every interface. ::1 is there too where the machine has it: Node looks up localhost so.
func TestByDefaultOnlyLoopbackIsListenedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	var (
		port int
		box  *lambdasim.Sandbox
	)
	for attempt := 0; box == nil; attempt++ {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		ok(t, err)
		port = free.Addr().(*net.TCPAddr).Port
		ok(t, free.Close())
		box, err = w.ColdStart(t.Context(), function(w, env{
			"CONSUL_EXTENSION_BIND_ADDR": "", "CONSUL_SERVICE_UPSTREAMS": lab.Greeter + ":" + strconv.Itoa(port),
		}))
		if err != nil && attempt == 5 { // another program may take the port in between, which fails Init
			t.Fatal(err)
		}
	}
	mind(t, w, box)
	want := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))}
	if ln, err := net.Listen("tcp", "[::1]:0"); err == nil {
		_ = ln.Close()
		want = append(want, netip.AddrPortFrom(netip.IPv6Loopback(), uint16(port)))
	}
	if got := listeners(t, box.ExtensionPID(lab.ExtensionName)); !slices.Equal(got, want) {
		t.Errorf("it listens on %v, want %v", got, want)
	}
}

// listeners returns where a process listens on TCP, in order.
func listeners(t testing.TB, pid int) (all []netip.AddrPort) {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	ok(t, err)
	mine := make(map[string]bool)
	for _, fd := range fds {
		if target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err == nil {
			mine[target] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		file, err := os.Open(filepath.Join(dir, "net", table))
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		ok(t, err)
		for lines := bufio.NewScanner(file); lines.Scan(); {
			f := strings.Fields(lines.Text()) // proc(5): the address, the state (0A is LISTEN) and the inode
			if len(f) > 9 && f[3] == "0A" && mine["socket:["+f[9]+"]"] {
				all = append(all, procAddr(t, f[1]))
			}
		}
		_ = file.Close()
	}
	slices.SortFunc(all, func(a, b netip.AddrPort) int {
		return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), a.Compare(b))
	})
	return all
}

// procAddr reads an address of /proc/net: words of 32 bits in the machine's order, here little-endian, and the port.
func procAddr(t testing.TB, s string) netip.AddrPort {
	t.Helper()
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	ok(t, err)
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	addr, valid := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil || !valid {
		t.Fatalf("address %q", s)
	}
	return netip.AddrPortFrom(addr, uint16(n))
}

// R17: what is meant for the function's runtime does no harm here. The collector goes on, the Extensions API is not
// proxied, and so is nothing else on loopback.
func TestWhatTheEnvironmentSaysToTheRuntimeDoesNoHarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, env{
		"GOGC": "off", "GOMEMLIMIT": "1MiB", "GODEBUG": "x", "GOTRACEBACK": "crash", "GOMAXPROCS": "1",
		"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1", "NO_PROXY": "",
		"SSL_CERT_FILE": "/nonexistent", "RES_OPTIONS": "attempts:9",
		"CONSUL_EXTENSION_TLS_RESUMPTION": "false", "CONSUL_EXTENSION_WARM_CONNECTIONS": "0", // handshakes make garbage
	})
	for range 300 {
		works(t, w)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", box.ExtensionPID(lab.ExtensionName)))
	ok(t, err)
	if !labtest.Race() {
		// 300 handshakes leave some 30 MB behind if nobody collects.
		if kib := field(t, string(status), "VmHWM:"); kib > 28<<10 {
			t.Errorf("the extension took %d KiB", kib)
		}
	}
	if _, exit := shutDown(t, box); exit.Code != 0 {
		t.Errorf("exit code %d", exit.Code)
	}
}

// terminate sends the extension SIGTERM and waits until it has ended.
func terminate(t testing.TB, box *lambdasim.Sandbox) {
	t.Helper()
	ok(t, syscall.Kill(box.ExtensionPID(lab.ExtensionName), syscall.SIGTERM))
	await(t, "the extension's end", box.Died())
}

func field(t testing.TB, status, name string) int {
	t.Helper()
	_, rest, _ := strings.Cut(status, name)
	f := strings.Fields(rest)
	n, err := strconv.Atoi(f[0])
	ok(t, err)
	return n
}

// R17: past the limit a connection is reset, and the log says which limit; when one has ended there is room again.
func TestTheConnectionPastTheLimitIsReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, env{"CONSUL_EXTENSION_MAX_CONNECTIONS": "3"})
	open := make([]*net.TCPConn, 3)
	for i := range open {
		open[i] = connect(t, w, lab.Echo)
		roundTrip(t, open[i], "one of three")
	}
	refused(t, w, lab.Echo)
	refused(t, w, lab.Digest)
	awaitLog(t, box, 1, `"cause":"limit"`, `"upstream":"echo:7001"`)
	ok(t, open[0].Close())
	waittest.Until(t, "room for another connection", func() bool {
		c, err := net.Dial("tcp", w.Addr(lab.Greeter))
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		ok(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = tryGreeting(c)
		return err == nil
	})
}

// A start that is interrupted ends at once.
func TestASandboxThatIsGivenUpLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	w.Store.FailAll("", ssmsim.Hang())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := w.ColdStart(ctx, function(w, nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cold start: %v", err)
	}
}
