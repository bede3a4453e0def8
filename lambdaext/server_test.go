// SPDX-License-Identifier: MPL-2.0

package lambdaext

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// api is the Extensions API of one sandbox, for one extension: the states, answers and refusals of the platform's own
// implementation, on a real server.
type api struct {
	addr        string
	connections atomic.Int32  // accepted so far
	closed      chan struct{} // one for each that has ended

	registrations chan registration // what was registered, in order
	events        chan string       // bodies that Next answers with, one each
	reports       chan report       // errors that were accepted

	mu    sync.Mutex
	state string // "", Registered, Running, InitError, ExitError
}

type registration struct {
	name   string
	events []EventType
}

type report struct {
	path, header  string
	message, kind string
}

const testIdentifier = "7c1b0a0e-0d51-4d7e-9a2f-1f0f3a1b5c55"

func newAPI(tb testing.TB) *api {
	tb.Helper()
	a := &api{
		closed:        make(chan struct{}, 64),
		registrations: make(chan registration, 8),
		events:        make(chan string, 8),
		reports:       make(chan report, 8),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", a.register)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", a.next)
	mux.HandleFunc("POST /2020-01-01/extension/init/error", a.report("InitError", "Registered"))
	mux.HandleFunc("POST /2020-01-01/extension/exit/error", a.report("ExitError", "Registered", "Running"))
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			a.connections.Add(1)
		case http.StateClosed:
			a.closed <- struct{}{}
		}
	}
	server.Start()
	tb.Cleanup(server.Close)
	a.addr = server.Listener.Addr().String()
	return a
}

// move goes to state to if the present one is among from, and otherwise refuses.
func (a *api) move(w http.ResponseWriter, to string, from ...string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != to && !slices.Contains(from, a.state) {
		refuse(w, http.StatusForbidden, "Extension.InvalidExtensionState",
			fmt.Sprintf("State transition from %s to %s failed for extension", cmp.Or(a.state, "Started"), to))
		return false
	}
	a.state = to
	return true
}

func (a *api) register(w http.ResponseWriter, r *http.Request) {
	var body struct{ Events []EventType }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Content-Type") != "application/json" {
		refuse(w, http.StatusForbidden, "InvalidRequestFormat", fmt.Sprint(err))
		return
	}
	for _, e := range body.Events {
		if e != Shutdown { // a function on Managed Instances
			refuse(w, http.StatusForbidden, "Extension.InvalidEventType", string(e)+" is not supported")
			return
		}
	}
	a.mu.Lock()
	again := a.state != ""
	a.mu.Unlock()
	if again {
		refuse(w, http.StatusForbidden, "Extension.InvalidExtensionState", "Extension with this name already registered")
		return
	}
	a.move(w, "Registered", "")
	a.registrations <- registration{r.Header.Get(headerName), body.Events}
	w.Header().Set(headerIdentifier, testIdentifier)
	_, _ = io.WriteString(w, `{"functionName":"orders","functionVersion":"$LATEST","handler":"main.handler","accountId":"123456789012"}`)
}

func (a *api) next(w http.ResponseWriter, r *http.Request) {
	if !identified(w, r) || !a.move(w, "Running", "Registered") {
		return
	}
	select {
	case event := <-a.events:
		_, _ = io.WriteString(w, event)
	case <-r.Context().Done():
	}
}

func (a *api) report(to string, from ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		kind := r.Header.Get(headerErrorType)
		if kind == "" {
			refuse(w, http.StatusForbidden, "Extension.MissingHeader", headerErrorType)
			return
		}
		if !identified(w, r) || !a.move(w, to, from...) {
			return
		}
		var body struct{ ErrorMessage, ErrorType string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		a.reports <- report{r.URL.Path, kind, body.ErrorMessage, body.ErrorType}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"status":"OK"}`+"\n")
	}
}

func identified(w http.ResponseWriter, r *http.Request) bool {
	switch r.Header.Get(headerIdentifier) {
	case testIdentifier:
		return true
	case "":
		refuse(w, http.StatusForbidden, "Extension.MissingExtensionIdentifier", "no identifier")
	default:
		refuse(w, http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "unknown identifier")
	}
	return false
}

func refuse(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"errorType": kind, "errorMessage": message})
}

// script is a server that answers the n-th request of the n-th connection, both from 0, as serve writes it:
// for faults that an HTTP server cannot be made to have. The connection is closed when serve returns false.
func script(tb testing.TB, serve func(conn, request int, r *http.Request, w net.Conn) bool) (addr string) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				reader := bufio.NewReader(conn)
				for i := 0; ; i++ {
					r, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if !serve(n, i, r, conn) {
						return
					}
				}
			})
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return listener.Addr().String()
}

// answer writes a whole answer with the identifier that a registration needs.
func answer(w io.Writer, status int, body string) bool {
	_, err := fmt.Fprintf(w, "HTTP/1.1 %d x\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
		status, headerIdentifier, testIdentifier, len(body), body)
	return err == nil
}

// register registers an extension for SHUTDOWN at addr and closes it when the test ends.
func register(tb testing.TB, addr string) *Client {
	tb.Helper()
	c, err := Register(tb.Context(), Config{RuntimeAPI: addr, Name: "consul-lambda-extension"}, Shutdown)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}
