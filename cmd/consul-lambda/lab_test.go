// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/doctor"
	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/labtest"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

func builtPrograms(t testing.TB) lab.Programs {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("functions run on Linux only")
	}
	if testing.Short() {
		t.Skip("builds and runs programs")
	}
	return labtest.All(t)
}

// liveTestLab runs the lab until the test ends. It returns what is told, and the environment in which a process finds the lab.
func liveTestLab(t *testing.T, broken ...string) (told *waittest.Log, environ []string) {
	t.Helper()
	p := builtPrograms(t)
	told = new(waittest.Log)
	events := &eventLog{w: told, paint: painterFor(told)}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := liveLab(ctx, p, broken, w, events)
		_ = w.Close()
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		_ = r.Close()
		if err := <-done; err != nil {
			t.Errorf("the lab: %v\n%s", err, told)
		}
	})
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		if !ok {
			t.Fatalf("no variable in %q", lines.Text())
		}
		environ = append(environ, name+"="+strings.Trim(value, "'"))
		if name == "NODE_NAME" { // the last one
			return told, environ
		}
	}
	t.Fatalf("the lab has not started: %s", told)
	return nil, nil
}

func TestTheLabIsFoundByItsEnvironment(t *testing.T) {
	t.Parallel()
	told, environ := liveTestLab(t)
	if code, stdout, stderr := process(t, environ, "doctor", "--watch", "100ms"); code != 0 {
		t.Errorf("doctor: exit code %d, %s, %s", code, stdout, stderr)
	}
	// What the registrator has registered is what it would register: a second run is empty.
	if code, stdout, stderr := process(t, environ, "plan"); code != 0 || !strings.Contains(stdout, "Nothing to change.") {
		t.Errorf("plan: exit code %d, %s, %s", code, stdout, stderr)
	}
	told.Await(t, "GetParameter /consul/lambda/default/default/checkout")
	told.Await(t, "GetResources")
	told.Await(t, "catalog.node-services lambdas")
}

func TestPlanShowsWhatTheLabsLostEventsLeft(t *testing.T) {
	t.Parallel()
	_, environ := liveTestLab(t, "lost-events")
	code, stdout, stderr := process(t, environ, "plan")
	for _, says := range []string{"+ create invoices", "- delete orders", "asynchronous", "warning  reports: ", "1 to create, 0 to update, 0 to renew, 1 to delete"} {
		if !strings.Contains(stdout, says) {
			t.Errorf("the plan does not say %q:\n%s", says, stdout)
		}
	}
	if code != 2 || stderr != "" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

func TestTheLabTellsExtensionsToEnd(t *testing.T) {
	t.Parallel()
	told := new(waittest.Log)
	api, err := startRuntimeAPI(t.Context(), "checkout", &eventLog{w: told, paint: painterFor(told)})
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	base := "http://" + api.addr()
	answer, err := http.Post(base+"/2020-01-01/extension/register", "application/json", strings.NewReader(`{"events":["SHUTDOWN"]}`))
	if err != nil || answer.Header.Get("Lambda-Extension-Identifier") == "" {
		t.Fatalf("register: %v", err)
	}
	_ = answer.Body.Close()
	next := make(chan string, 1)
	go func() {
		answer, err := http.Get(base + "/2020-01-01/extension/event/next")
		if err != nil {
			next <- err.Error()
			return
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		next <- string(text)
	}()
	told.Await(t, "waits for the next event")
	api.close()
	if event := <-next; !strings.Contains(event, `"eventType":"SHUTDOWN"`) {
		t.Errorf("the last event is %s", event)
	}
}

func TestTheFunctionExaminesItselfFromInside(t *testing.T) {
	t.Parallel()
	world, err := lab.New(t.Context(), lab.Config{Programs: builtPrograms(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = world.Close() })
	for _, beside := range []bool{true, false} {
		fn := world.Function()
		if !beside {
			fn.Extensions = nil
		}
		box, err := world.ColdStart(t.Context(), fn)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := box.Invoke(t.Context(), []byte(`{"doctor":true}`))
		box.Kill()
		if err != nil {
			t.Fatal(err)
		}
		var report doctor.Report
		if err := json.Unmarshal(answer.Payload, &report); err != nil || report.OK != beside || len(report.Results) < 10 {
			t.Errorf("with the extension %v: %v, %s", beside, err, answer.Payload)
		}
		for _, r := range report.Results {
			if wantFail := r.Name == "port" && !beside; (r.Status == doctor.Fail) != wantFail {
				t.Errorf("with the extension %v: %+v", beside, r)
			}
		}
		tellsNoSecret(t, &site{world: world}, report)
	}
}

func TestTheConfigurationOfAFunctionIsReadFromAWS(t *testing.T) {
	s := newTestSite(t)
	s.aws.AddFunction("checkout", nil)
	s.configure([]string{"checkout"})
	for name, value := range s.env {
		if !strings.HasPrefix(name, "CONSUL_") {
			t.Setenv(name, value)
		}
	}
	t.Setenv("AWS_LAMBDA_FUNCTION_NAME", "not-this-one")
	code, stdout, stderr := command(t, "doctor", "--function", "checkout", "--upstream", "web", "--watch", "100ms")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "function checkout, 1 upstream") || !strings.Contains(stdout, "with your credentials") {
		t.Errorf("exit code %d, %q:\n%s", code, stderr, stdout)
	}
	code, stdout, stderr = command(t, "doctor", "--function", "checkuot")
	if code != 2 || stdout != "" || !strings.Contains(stderr, "AWS has no function checkuot in us-east-1") || !strings.Contains(stderr, "--region") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	s.aws.Deny("kms:Decrypt")
	code, stdout, stderr = command(t, "doctor", "--function", "checkout")
	if code != 2 || stdout != "" || !strings.Contains(stderr, "(kms:Decrypt)") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	s.aws.Deny("lambda:GetFunctionConfiguration")
	code, stdout, stderr = command(t, "doctor", "--function", "checkout")
	if code != 2 || stdout != "" || !strings.Contains(stderr, "lambda:GetFunctionConfiguration") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestTheLabIsNotReadyWhenNobodyCouldBeTold(t *testing.T) {
	t.Parallel()
	told := new(waittest.Log)
	err := liveLab(t.Context(), builtPrograms(t), nil, full{}, &eventLog{w: told, paint: painterFor(told)})
	if !errors.Is(err, syscall.ENOSPC) || strings.Contains(told.String(), "ready") {
		t.Errorf("%v: %s", err, told)
	}
}

// The first command of docs/operations.md, in the lab: a fault is in what the function is configured with.
func TestTheLabsFunctionsAreConfigured(t *testing.T) {
	t.Parallel()
	_, environ := liveTestLab(t, "no-dns")
	for _, name := range enabled {
		code, stdout, stderr := process(t, environ, "doctor", "--function", name)
		if code != 1 || stderr != "" || !strings.Contains(stdout, "function "+name+", ") || !strings.Contains(stdout, "mesh-gateway.invalid:8443: its name cannot be looked up") {
			t.Errorf("%s: exit code %d, %q:\n%s", name, code, stderr, stdout)
		}
	}
}
