// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// runtimeAPI is as much of Lambda's Extensions API and Runtime API as programs need that a person starts by hand: an extension is
// registered, and gets SHUTDOWN at the end; a runtime gets one empty event. Package lambdasim imitates both in full, for processes
// that it starts itself.
type runtimeAPI struct {
	ln       net.Listener
	srv      *http.Server
	function string
	events   *eventLog
	ended    chan struct{}
	served   chan struct{}

	mu      sync.Mutex
	invoked map[string]bool // runtimes that had their event, by their address
}

func startRuntimeAPI(ctx context.Context, function string, events *eventLog) (*runtimeAPI, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the Runtime API: %w", err)
	}
	a := &runtimeAPI{
		ln: ln, function: function, events: events, invoked: make(map[string]bool),
		ended: make(chan struct{}), served: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", a.register)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", a.nextEvent)
	mux.HandleFunc("POST /2020-01-01/extension/{phase}/error", a.said("extension"))
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", a.nextInvocation)
	mux.HandleFunc("POST /2018-06-01/runtime/", a.said("runtime"))
	a.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go a.serve()
	return a, nil
}

// serve answers until close. Owner: close.
func (a *runtimeAPI) serve() {
	defer close(a.served)
	_ = a.srv.Serve(a.ln)
}

func (a *runtimeAPI) addr() string { return a.ln.Addr().String() }

// close tells extensions to end, and gives them a moment to hear it.
func (a *runtimeAPI) close() {
	close(a.ended)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = a.srv.Shutdown(ctx)
	_ = a.srv.Close()
	<-a.served
}

func (a *runtimeAPI) register(w http.ResponseWriter, r *http.Request) {
	a.events.tell("extension", "registers:", r.Header.Get("Lambda-Extension-Name"))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Lambda-Extension-Identifier", "00000000-0000-4000-8000-000000000000")
	_, _ = fmt.Fprintf(w, `{"functionName":%q,"functionVersion":"$LATEST","handler":"bootstrap"}`, a.function)
}

func (a *runtimeAPI) nextEvent(w http.ResponseWriter, r *http.Request) {
	a.events.tell("extension", "waits for the next event")
	select {
	case <-r.Context().Done():
		a.events.tell("extension", "has gone")
	case <-a.ended:
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"eventType":"SHUTDOWN","shutdownReason":"spindown","deadlineMs":%d}`, time.Now().Add(2*time.Second).UnixMilli())
	}
}

func (a *runtimeAPI) nextInvocation(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	again := a.invoked[r.RemoteAddr]
	a.invoked[r.RemoteAddr] = true
	a.mu.Unlock()
	if again {
		select {
		case <-r.Context().Done():
		case <-a.ended:
		}
		return
	}
	a.events.tell("runtime", "is invoked, with an empty event")
	w.Header().Set("Lambda-Runtime-Aws-Request-Id", "00000000-0000-4000-8000-000000000001")
	w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10))
	w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:consul-lambda-registrator")
	_, _ = io.WriteString(w, "{}")
}

// said tells what a program has to say of itself.
func (a *runtimeAPI) said(who string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		what := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		a.events.tell(who, what+":", string(bytes.TrimSpace(body)))
		w.WriteHeader(http.StatusAccepted)
	}
}
