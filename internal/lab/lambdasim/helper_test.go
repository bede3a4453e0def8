// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"go.uber.org/goleak"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// The test binary is also the extensions, the runtime and a whole lab, chosen by
// the name it is started under: each runs the script in the variable
// SCRIPT_<name>.
func TestMain(m *testing.M) {
	if os.Getenv("LAMBDASIM_HELPER") != "" {
		name := filepath.Base(os.Args[0])
		(&helper{name: name}).run(os.Getenv("SCRIPT_" + name))
		return
	}
	waittest.Parallel(8) // a sandbox waits
	goleak.VerifyTestMain(m)
}

// function returns a function whose runtime and extensions run the scripts. The
// key "bootstrap" is the runtime, which without a script is a Go function.
func function(t testing.TB, scripts map[string]string) Function {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	fn := Function{
		Name:      "orders",
		Bootstrap: filepath.Join(dir, "bootstrap"),
		Timeout:   20 * time.Second, // only a hung test meets it
		InitLimit: 20 * time.Second,
		Env: map[string]string{
			"LAMBDASIM_HELPER": "1",
			"SCRIPT_bootstrap": "handler",
			"GORACE":           "atexit_sleep_ms=0", // else an exit takes 1 s under -race
		},
	}
	if err := os.Symlink(self, fn.Bootstrap); err != nil {
		t.Fatal(err)
	}
	for name, script := range scripts {
		fn.Env["SCRIPT_"+name] = script
		if name == "bootstrap" {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.Symlink(self, path); err != nil {
			t.Fatal(err)
		}
		fn.Extensions = append(fn.Extensions, path)
	}
	return fn
}

func start(t testing.TB, fn Function, opt Options) *Sandbox {
	t.Helper()
	s, err := Start(t.Context(), fn, opt)
	if err != nil {
		t.Fatalf("cold start: %v", err)
	}
	t.Cleanup(s.Kill)
	return s
}

func invoke(t testing.TB, s *Sandbox, payload string) Result {
	t.Helper()
	r, err := s.Invoke(t.Context(), []byte(payload))
	if err != nil {
		t.Fatalf("invoke %s: %v", payload, err)
	}
	return r
}

// waitLine waits for a line of source that contains text.
func waitLine(t testing.TB, s *Sandbox, source, text string) Line {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	l, err := s.WaitLog(ctx, func(l Line) bool { return l.Source == source && strings.Contains(l.Text, text) })
	if err != nil {
		t.Fatalf("no line of %s contains %q: %v\n%s", source, text, err, transcript(s.Logs()))
	}
	return l
}

func hasLine(lines []Line, source, text string) bool {
	for _, l := range lines {
		if l.Source == source && strings.Contains(l.Text, text) {
			return true
		}
	}
	return false
}

func transcript(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s %s: %s\n", l.Time.Format("05.000"), l.Source, l.Text)
	}
	return b.String()
}

// gone reports whether nothing of the process can run any more: an orphan may
// stay a zombie where nobody reaps it.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}

// helper interprets one script: steps separated by semicolons. Every answer of
// the API is written as a line "<step> <status> <body>".
type helper struct {
	name, id string
}

func (h *helper) run(script string) {
	for step := range strings.SplitSeq(script, ";") {
		words := append(strings.Fields(step), "", "")
		switch words[0] {
		case "register": // EVENTS
			h.register(h.name, words[1])
		case "registeras": // NAME EVENTS
			h.register(words[1], words[2])
		case "next":
			h.next()
		case "loop": // [FILE: it works after each INVOKE until that is there]
			h.loop(words[1])
		case "initerror", "exiterror": // TYPE
			path := "/2020-01-01/extension/" + strings.TrimSuffix(words[0], "error") + "/error"
			h.call(words[0], "POST", path, `{"errorMessage":"told you so"}`, map[string]string{"Lambda-Extension-Function-Error-Type": words[1]})
		case "runtimeerror": // TYPE
			h.call(words[0], "POST", "/2018-06-01/runtime/init/error", `{"errorMessage":"told you so"}`, map[string]string{"Lambda-Runtime-Function-Error-Type": words[1]})
		case "sleep":
			d, _ := time.ParseDuration(words[1])
			time.Sleep(d)
		case "exit":
			code, _ := strconv.Atoi(words[1])
			os.Exit(code)
		case "exitonce": // FILE: exits 1 unless the file is there
			if f, err := os.OpenFile(words[1], os.O_CREATE|os.O_EXCL, 0o600); err == nil {
				_ = f.Close()
				os.Exit(1)
			}
		case "hang":
			select {}
		case "child": // leaves a child in the process group
			c := exec.Command("sleep", "600")
			if err := c.Start(); err != nil {
				fmt.Println("child failed", err)
			} else {
				fmt.Println("child", c.Process.Pid)
			}
		case "count": // FILE: writes a growing number into it, for ever
			go count(words[1])
		case "environment":
			for _, v := range os.Environ() {
				fmt.Println("environment", v)
			}
			fmt.Println("environment ends")
		case "onterm": // exits 0 on SIGTERM
			terms := make(chan os.Signal, 1)
			signal.Notify(terms, syscall.SIGTERM)
			go func() {
				<-terms
				fmt.Println("terminated")
				os.Exit(0)
			}()
		case "ignoreterm":
			signal.Ignore(syscall.SIGTERM)
		case "handler":
			lambda.Start(handle)
		case "handlersigterm":
			lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() { fmt.Println("terminated"); os.Exit(0) }))
		case "lab":
			runLab()
		default:
			fmt.Println("unknown step", step)
			os.Exit(99)
		}
	}
}

func (h *helper) register(name, events string) {
	body := `{"events":[]}`
	if events != "" {
		body = `{"events":["` + strings.ReplaceAll(events, ",", `","`) + `"]}`
	}
	header, _ := h.call("register", "POST", "/2020-01-01/extension/register", body, map[string]string{"Lambda-Extension-Name": name})
	h.id = header.Get("Lambda-Extension-Identifier")
}

func (h *helper) next() (eventType string) {
	_, body := h.call("next", "GET", "/2020-01-01/extension/event/next", "", nil)
	var e struct{ EventType string }
	_ = json.Unmarshal([]byte(body), &e)
	return e.EventType
}

func (h *helper) loop(file string) {
	for h.next() != "SHUTDOWN" {
		if file != "" {
			for !exists(file) {
				time.Sleep(time.Millisecond)
			}
			fmt.Println("work done")
		}
	}
	os.Exit(0)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func (h *helper) call(step, method, path, body string, header map[string]string) (http.Header, string) {
	r, _ := http.NewRequest(method, "http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+path, strings.NewReader(body))
	r.Header.Set("Lambda-Extension-Identifier", h.id)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		fmt.Println(step, err)
		os.Exit(98)
	}
	defer func() { _ = res.Body.Close() }()
	answer, _ := io.ReadAll(res.Body)
	fmt.Println(step, res.StatusCode, strings.TrimSpace(string(answer)))
	return res.Header, string(answer)
}

func count(file string) {
	f, err := os.Create(file)
	if err != nil {
		fmt.Println("count failed", err)
		return
	}
	for n := 1; ; n++ {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%012d", n), 0)
	}
}

type request struct {
	Do   string `json:"do"`
	Text string `json:"text"`
}

type response struct {
	Text      string    `json:"text"`
	RequestID string    `json:"requestId"`
	ARN       string    `json:"arn"`
	Deadline  time.Time `json:"deadline"`
}

// handle is a function as users write them.
func handle(ctx context.Context, r request) (response, error) {
	switch r.Do {
	case "error":
		return response{}, errors.New(r.Text)
	case "exit":
		os.Exit(7)
	case "hang":
		select {}
	}
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return response{Text: r.Text, RequestID: lc.AwsRequestID, ARN: lc.InvokedFunctionArn, Deadline: deadline}, nil
}

// runLab is a program that runs a sandbox and is killed while it does.
func runLab() {
	dir, _ := os.MkdirTemp(os.Getenv("TMPDIR"), "lab")
	self, _ := os.Executable()
	extension, bootstrap := filepath.Join(dir, "ext"), filepath.Join(dir, "bootstrap")
	_ = os.Symlink(self, extension)
	_ = os.Symlink(self, bootstrap)
	s, err := Start(context.Background(), Function{
		Bootstrap:  bootstrap,
		Extensions: []string{extension},
		Env:        map[string]string{"LAMBDASIM_HELPER": "1", "SCRIPT_ext": "register SHUTDOWN; loop", "SCRIPT_bootstrap": "handler"},
	}, Options{})
	if err != nil {
		fmt.Println("lab failed", err)
		os.Exit(1)
	}
	for _, pid := range s.PIDs() {
		fmt.Println(pid)
	}
	fmt.Println("up")
	select {}
}
