// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// extensionsAPI is as much of Lambda's Extensions API as an extension needs to start: it answers register, notes when
// that and the first Next arrive, and has no event to give. Package lambdasim imitates it in full, with processes,
// freezing and failures, which would only add to what is measured here.
type extensionsAPI struct {
	ln         net.Listener
	srv        *http.Server
	registered chan time.Time // capacity 1: the first of each is kept
	next       chan time.Time
	failed     chan string // what an extension said to init/error or exit/error
	done       chan struct{}
	served     chan struct{}
}

func startExtensionsAPI(ctx context.Context) (*extensionsAPI, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the Extensions API: %w", err)
	}
	a := &extensionsAPI{
		ln:         ln,
		registered: make(chan time.Time, 1),
		next:       make(chan time.Time, 1),
		failed:     make(chan string, 1),
		done:       make(chan struct{}),
		served:     make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", a.serveRegister)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", a.serveNext)
	mux.HandleFunc("POST /2020-01-01/extension/{phase}/error", a.serveError)
	a.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go a.serve()
	return a, nil
}

// serve answers until close. Owner: close.
func (a *extensionsAPI) serve() {
	defer close(a.served)
	_ = a.srv.Serve(a.ln)
}

func (a *extensionsAPI) addr() string { return a.ln.Addr().String() }

func (a *extensionsAPI) close() {
	close(a.done)
	_ = a.srv.Close()
	<-a.served
}

func (a *extensionsAPI) serveRegister(w http.ResponseWriter, r *http.Request) {
	note(a.registered, time.Now())
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<16))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Lambda-Extension-Identifier", "00000000-0000-4000-8000-000000000000")
	_, _ = io.WriteString(w, `{"functionName":"`+function+`","functionVersion":"$LATEST","handler":"bootstrap"}`)
}

func (a *extensionsAPI) serveNext(_ http.ResponseWriter, r *http.Request) {
	note(a.next, time.Now())
	select {
	case <-r.Context().Done():
	case <-a.done:
	}
}

func (a *extensionsAPI) serveError(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<12))
	note(a.failed, r.Header.Get("Lambda-Extension-Function-Error-Type")+": "+string(body))
	w.WriteHeader(http.StatusAccepted)
}

func note[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}
