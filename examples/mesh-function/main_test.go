// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echoServer answers each TCP connection with what it receives, and closes its
// direction when the client has closed its own. It returns its address.
func echoServer(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}

func results(t testing.TB, e Event) []Result {
	t.Helper()
	r, err := handle(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return r.Results
}

func TestAStreamIsHashedInBothDirections(t *testing.T) {
	for _, c := range []Call{{SendBytes: 8 << 20}, {Send: "some forty bytes that will be sent slowly", DripMS: 1}, {}} {
		c.TCP = echoServer(t)
		r := results(t, Event{Calls: []Call{c}})[0]
		if r.Error != "" || r.Bytes != r.SentBytes || r.SHA256 != r.SentSHA256 || r.Bytes != max(c.SendBytes, int64(len(c.Send))) || len(r.Body) > 1<<10 {
			t.Errorf("%+v: %+v", c, r)
		}
	}
}

func TestRequestsReuseConnectionsAcrossInvocations(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(server.Close)
	for i := range 3 {
		r := results(t, Event{Calls: []Call{{HTTP: server.URL, Send: "tea"}}})[0]
		if r.Error != "" || r.Status != http.StatusTeapot || r.Body != "tea" || r.SHA256 != r.SentSHA256 || r.Reused != (i > 0) {
			t.Errorf("invocation %d: %+v", i, r)
		}
	}
}

func TestCallsRunInParallel(t *testing.T) {
	const parallel = 8
	var inside atomic.Int32
	all := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if inside.Add(1) == parallel {
			close(all)
		}
		select {
		case <-all:
		case <-time.After(10 * time.Second):
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	got := results(t, Event{Calls: []Call{{HTTP: server.URL}}, Repeat: 3 * parallel, Parallel: parallel})
	if len(got) != 3*parallel {
		t.Fatalf("%d results", len(got))
	}
	for _, r := range got {
		if r.Status != http.StatusOK {
			t.Errorf("%+v", r)
		}
	}
}

func TestAFailedCallDoesNotHideTheOthers(t *testing.T) {
	got := results(t, Event{Calls: []Call{{TCP: "127.0.0.1:1"}, {}, {HTTP: "http://127.0.0.1:1/"}, {TCP: echoServer(t), Send: "x"}}})
	for i, failed := range []bool{true, true, true, false} {
		if (got[i].Error != "") != failed {
			t.Errorf("call %d: %+v", i, got[i])
		}
	}
}

func TestTheEnvironmentNamesTheUpstreamsOfAnEmptyEvent(t *testing.T) {
	address := echoServer(t)
	t.Setenv("UPSTREAM_HTTP", "")
	t.Setenv("UPSTREAM_TCP", address)
	if got := results(t, Event{}); len(got) != 1 || got[0].Upstream != address || got[0].Body != "hello" {
		t.Errorf("results %+v", got)
	}
}

func TestAHangingUpstreamEndsWithTheInvocation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // never accepted, never answered
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	address := l.Addr().String()
	r, err := handle(ctx, Event{Calls: []Call{{TCP: address, SendBytes: 1 << 30}, {HTTP: "http://" + address}}, Parallel: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range r.Results {
		if got.Error == "" {
			t.Errorf("%+v", got)
		}
	}
}
