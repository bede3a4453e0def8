// SPDX-License-Identifier: MPL-2.0

package lambdaext

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

const shutdownEvent = `{"eventType":"SHUTDOWN","shutdownReason":"spindown","deadlineMs":1700000002000}`

// R10, R11: register, then Next, with the file's name and SHUTDOWN alone.
func TestRegisterTellsTheNameAndTheEvents(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	register(t, api.addr)
	got := <-api.registrations
	if got.name != "consul-lambda-extension" || !slices.Equal(got.events, []EventType{Shutdown}) {
		t.Errorf("registered %+v", got)
	}
}

func TestRegisterWithoutEventsSendsAnEmptyList(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	c, err := Register(t.Context(), Config{RuntimeAPI: api.addr, Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := <-api.registrations; got.events == nil || len(got.events) != 0 {
		t.Errorf("events %#v, want an empty list", got.events)
	}
}

// R16: SHUTDOWN arrives with its reason and deadline.
func TestNextWaitsForTheEventAndReturnsIt(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	c := register(t, api.addr)

	type result struct {
		event Event
		err   error
	}
	results := make(chan result, 1)
	go func() {
		event, err := c.Next(t.Context())
		results <- result{event, err}
	}()
	api.events <- shutdownEvent
	got := <-results
	if got.err != nil {
		t.Fatal(got.err)
	}
	want := Event{Type: Shutdown, ShutdownReason: Spindown, Deadline: time.UnixMilli(1700000002000)}
	if got.event != want {
		t.Errorf("event %+v, want %+v", got.event, want)
	}
}

// The cold start pays for one TCP handshake, and answers are read to their end or the connection could not be used again.
func TestAllCallsInTurnUseOneConnection(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	c := register(t, api.addr)
	for range 3 {
		api.events <- shutdownEvent
		if _, err := c.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.ExitError(t.Context(), "Extension.Test", errors.New("done")); err != nil {
		t.Fatal(err)
	}
	if err := c.InitError(t.Context(), "Extension.Test", errors.New("late")); !errors.Is(err, ErrState) {
		t.Fatal(err)
	}
	if err := c.ExitError(t.Context(), "Extension.Test", errors.New("done")); err != nil {
		t.Fatal(err)
	}
	if n := api.connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// A sandbox is frozen for as long as Lambda likes: only ctx ends Next.
func TestNextEndsWithItsContextOnly(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	c := register(t, api.addr)
	if tr := c.transport; tr.ResponseHeaderTimeout != 0 || tr.IdleConnTimeout != 0 {
		t.Errorf("transport with a time limit: %v, %v", tr.ResponseHeaderTimeout, tr.IdleConnTimeout)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := c.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestAContextEndsAnAnswerThatStalls(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"no answer":           "",
		"in the header":       "HTTP/1.1 200 OK\r\nLambda-Ext",
		"in the body":         "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
		"in an error's body":  "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n{",
		"after a chunk":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"switching protocols": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := script(t, func(_, request int, _ *http.Request, w net.Conn) bool {
				if request == 0 {
					return answer(w, 200, `{}`)
				}
				_, err := io.WriteString(w, head)
				return err == nil
			})
			c := register(t, addr)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			done := make(chan error, 1)
			go func() { _, err := c.Next(ctx); done <- err }()
			select {
			case err := <-done:
				if err == nil {
					t.Error("no error")
				}
			case <-time.After(waittest.Patience):
				t.Error("still waiting")
			}
		})
	}
}

// R12: an invalid configuration is reported before the first Next.
func TestInitErrorCarriesTypeAndMessage(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	c := register(t, api.addr)
	cause := errors.New("CONSUL_REFRESH_FREQUENCY: \"soon\" is not a duration\nand more")
	for range 2 { // a repeat changes nothing
		if err := c.InitError(t.Context(), "Extension.ConfigInvalid", cause); err != nil {
			t.Fatal(err)
		}
		want := report{"/2020-01-01/extension/init/error", "Extension.ConfigInvalid", cause.Error(), "Extension.ConfigInvalid"}
		if got := <-api.reports; got != want {
			t.Errorf("report %+v, want %+v", got, want)
		}
	}
	if _, err := c.Next(t.Context()); !errors.Is(err, ErrState) {
		t.Errorf("Next after an init error: %v, want ErrState", err)
	}
}

func TestInitErrorAfterTheFirstNextIsErrState(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	c := register(t, api.addr)
	api.events <- shutdownEvent
	if _, err := c.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := c.InitError(t.Context(), "Extension.Late", errors.New("late"))
	want := APIError{Op: "init error", Status: 403, Type: "Extension.InvalidExtensionState", Message: "State transition from Running to InitError failed for extension"}
	if got, ok := errors.AsType[*APIError](err); !ok || *got != want || !errors.Is(err, ErrState) {
		t.Errorf("error %#v, want %#v", err, want)
	}
}

func TestExitErrorIsAcceptedWhileAnotherGoroutineWaitsInNext(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	c := register(t, api.addr)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := c.Next(ctx); done <- err }()
	if err := c.ExitError(t.Context(), "Extension.Broken", errors.New("broken")); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("Next returned without an event")
	}
}

func TestAnErrorTypeThatNoHeaderCanCarryIsAnError(t *testing.T) {
	t.Parallel()
	c := register(t, newAPI(t).addr)
	for _, kind := range []string{"", "two\nlines"} {
		if err := c.ExitError(t.Context(), kind, errors.New("x")); err == nil {
			t.Errorf("type %q: no error", kind)
		}
	}
}

func TestRefusedRegistrationsAreToldApart(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	cfg := Config{RuntimeAPI: api.addr, Name: "x"}
	if _, err := Register(t.Context(), cfg, Invoke, Shutdown); !errors.Is(err, ErrEventType) {
		t.Errorf("INVOKE: %v, want ErrEventType", err)
	}
	c := register(t, api.addr)
	if _, err := Register(t.Context(), cfg, Shutdown); !errors.Is(err, ErrState) {
		t.Errorf("second registration: %v, want ErrState", err)
	}
	c.id = "other"
	_, err := c.Next(t.Context())
	if got, ok := errors.AsType[*APIError](err); !ok || got.Type != "Extension.UnknownExtensionIdentifier" {
		t.Errorf("unknown identifier: %v", err)
	}
	if errors.Is(err, ErrState) || errors.Is(err, ErrEventType) || errors.Is(err, ErrContainer) {
		t.Errorf("%v is one of the sentinels", err)
	}
}

func TestEveryRefusalBecomesAnAPIError(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", maxAnswer)
	for name, tt := range map[string]struct {
		status int
		body   string
		want   APIError
		is     error
	}{
		"the sandbox failed": {500, `{"errorMessage":"Container error","errorType":"Runtime.Unknown"}`,
			APIError{"register", 500, "Runtime.Unknown", "Container error"}, ErrContainer},
		"no body": {500, "", APIError{"register", 500, "", ""}, ErrContainer},
		"HTML":    {502, " <html>\n<b>bad gateway</b> ", APIError{"register", 502, "", "<html>\n<b>bad gateway</b>"}, nil},
		"cut off": {403, `{"errorMessage":"Sta`, APIError{"register", 403, "", `{"errorMessage":"Sta`}, nil},
		"a list":  {403, `["x"]`, APIError{"register", 403, "", `["x"]`}, nil},
		"null":    {403, `null`, APIError{"register", 403, "", `null`}, nil},
		"a message that is none": {403, `{"errorMessage":{"a":1},"errorType":"Extension.InvalidEventType"}`,
			APIError{"register", 403, "Extension.InvalidEventType", ""}, ErrEventType},
		"a redirect":  {307, "", APIError{"register", 307, "", ""}, nil},
		"a long page": {503, long, APIError{"register", 503, "", long[:maxErrorText]}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := script(t, func(_, _ int, _ *http.Request, w net.Conn) bool { return answer(w, tt.status, tt.body) })
			_, err := Register(t.Context(), Config{RuntimeAPI: addr, Name: "x"}, Shutdown)
			got, ok := errors.AsType[*APIError](err)
			if !ok || *got != tt.want {
				t.Fatalf("error %#v, want %#v", err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), fmt.Sprint(tt.status)) {
				t.Errorf("message %q", err)
			}
			for _, sentinel := range []error{ErrContainer, ErrState, ErrEventType} {
				if want := errors.Is(sentinel, tt.is); errors.Is(err, sentinel) != want {
					t.Errorf("errors.Is(%v, %v) = %v, want %v", err, sentinel, !want, want)
				}
			}
		})
	}
}

func TestAnswersThatBreakOffAreErrors(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"nothing":                "",
		"not HTTP":               "SSH-2.0-x\r\n\r\n",
		"within the header":      "HTTP/1.1 200 OK\r\nLambda-Extension-Id",
		"within the body":        "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: x\r\nContent-Length: 10\r\n\r\n{",
		"within a chunk":         "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
		"a header too long":      "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: x\r\nx: " + strings.Repeat("x", maxAnswerHeader*2) + "\r\n\r\n",
		"a body too long":        "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: x\r\n\r\n" + strings.Repeat(" ", maxAnswer+1),
		"no identifier":          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"a length that is wrong": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			addr := script(t, func(_, _ int, _ *http.Request, w net.Conn) bool {
				requests.Add(1)
				_, _ = io.WriteString(w, raw)
				return false
			})
			if _, err := Register(t.Context(), Config{RuntimeAPI: addr, Name: "x"}, Shutdown); err == nil {
				t.Error("no error")
			}
			// A second registration would be refused, or worse: count twice.
			if n := requests.Load(); n != 1 {
				t.Errorf("registered %d times, want once", n)
			}
		})
	}
}

func TestAnAnswerWithoutEndIsGivenUp(t *testing.T) {
	t.Parallel()
	addr := script(t, func(_, request int, _ *http.Request, w net.Conn) bool {
		if request == 0 {
			return answer(w, 200, `{}`)
		}
		_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\n\r\n")
		for err == nil {
			_, err = w.Write(make([]byte, 4096))
		}
		return false
	})
	c := register(t, addr)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := c.Next(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("error %v", err)
	}
}

func TestARefusedRegistrationLeavesNoConnection(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	if _, err := Register(t.Context(), Config{RuntimeAPI: api.addr, Name: "x"}, Invoke); !errors.Is(err, ErrEventType) {
		t.Fatal(err)
	}
	select {
	case <-api.closed:
	case <-time.After(waittest.Patience):
		t.Error("the connection is still open")
	}
}

// The identifier alone makes an extension registered: a body that cannot be read must not end the function.
func TestARegistrationWhoseDetailsCannotBeReadIsStillOne(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "<html>", `{"functionName":7}`} {
		register(t, script(t, func(_, _ int, _ *http.Request, w net.Conn) bool { return answer(w, 200, body) }))
	}
}

func TestAnAnswerMayArriveByteByByte(t *testing.T) {
	t.Parallel()
	addr := script(t, func(_, request int, _ *http.Request, w net.Conn) bool {
		if request == 0 {
			return answer(w, 200, `{}`)
		}
		var whole strings.Builder
		answer(&whole, 200, shutdownEvent)
		for _, b := range []byte(whole.String()) {
			if _, err := w.Write([]byte{b}); err != nil {
				return false
			}
		}
		return true
	})
	c := register(t, addr)
	for range 2 {
		if event, err := c.Next(t.Context()); err != nil || event.Type != Shutdown {
			t.Fatalf("event %+v, error %v", event, err)
		}
	}
}

// A kept connection may be closed by the API at any time, also as the next request is on its way.
func TestACallIsRepeatedWhenAKeptConnectionWasClosed(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*Client) error{
		"next":       func(c *Client) error { _, err := c.Next(t.Context()); return err },
		"init error": func(c *Client) error { return c.InitError(t.Context(), "Extension.Test", errors.New("x")) },
		"exit error": func(c *Client) error { return c.ExitError(t.Context(), "Extension.Test", errors.New("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests, keys atomic.Int32
			addr := script(t, func(conn, request int, r *http.Request, w net.Conn) bool {
				requests.Add(1)
				if _, ok := r.Header["Idempotency-Key"]; ok {
					keys.Add(1)
				}
				if conn == 0 && request == 1 {
					return false // read, and closed without a byte
				}
				return answer(w, 200, shutdownEvent)
			})
			if err := call(register(t, addr)); err != nil {
				t.Error(err)
			}
			if n := requests.Load(); n != 3 {
				t.Errorf("%d requests, want 3: register, one that was lost, its repeat", n)
			}
			if keys.Load() != 0 {
				t.Error("a header was sent that the API does not know")
			}
		})
	}
}

func TestACallIsNotRepeatedOnAFreshConnection(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	addr := script(t, func(_, request int, _ *http.Request, w net.Conn) bool {
		if requests.Add(1) == 1 {
			return answer(w, 200, `{}`)
		}
		return false
	})
	c := register(t, addr)
	if _, err := c.Next(t.Context()); err == nil {
		t.Error("no error")
	}
	if n := requests.Load(); n != 3 {
		t.Errorf("%d requests, want 3: register, one on its connection, one on a fresh one", n)
	}
}

func TestAnUnreachableAPIIsAnError(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	if _, err := Register(t.Context(), Config{RuntimeAPI: listener.Addr().String(), Name: "x"}, Shutdown); err == nil {
		t.Error("no error")
	}
}

func TestAConfigThatWouldReachTheWrongPlaceIsRefused(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{
		"", ":9001", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:http", "http://127.0.0.1:9001",
		"127.0.0.1:9001/", "127.0.0.1:9001/path", "user@127.0.0.1:9001", "127.0.0.1:9001?x", "127.0.0.1:9001#x", "a b:9001",
		"::1:9001", "[::1]", "127.0.0.1:9001\r\nx: y",
	} {
		if err := (Config{RuntimeAPI: addr, Name: "x"}).validate(); err == nil {
			t.Errorf("address %q: no error", addr)
		}
	}
	for _, name := range []string{"", "/opt/extensions/x", "x\ny"} {
		if err := (Config{RuntimeAPI: "127.0.0.1:9001", Name: name}).validate(); err == nil {
			t.Errorf("name %q: no error", name)
		}
	}
	for _, addr := range []string{"127.0.0.1:9001", "169.254.100.1:9001", "[::1]:9001", "localhost:1", "sandbox.localdomain:65535"} {
		if err := (Config{RuntimeAPI: addr, Name: "x"}).validate(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Register(t.Context(), Config{}); err == nil {
		t.Error("the zero Config: no error")
	}
}

// R17: a proxy that the function set for itself is never used. net/http reads the variables once in a process, so this
// takes one of its own; and it never uses a proxy for a loopback address, so the API is asked for at 0.0.0.0,
// which is dialled as 127.0.0.1 all the same.
func TestAProxyInTheEnvironmentIsNeverUsed(t *testing.T) {
	const variable = "LAMBDAEXT_TEST_API"
	if addr := os.Getenv(variable); addr != "" {
		register(t, addr)
		return
	}
	t.Parallel()
	api := newAPI(t)
	_, port, err := net.SplitHostPort(api.addr)
	if err != nil {
		t.Fatal(err)
	}

	const closed = "http://127.0.0.1:1" // nothing listens on port 1
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"=0.0.0.0:"+port,
		"HTTP_PROXY="+closed, "http_proxy="+closed, "ALL_PROXY="+closed, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if len(api.registrations) != 1 {
		t.Error("the API was not asked")
	}
}
