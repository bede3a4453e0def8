// SPDX-License-Identifier: MPL-2.0

//go:build unix

package paramstore

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
)

// R19: no keepalive traffic, which a thaw would turn into false alarms.
func TestConnectionsToTheStoreSendNoKeepalives(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := newTransport(nil).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var on int
	if cerr := raw.Control(func(fd uintptr) { on, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if on != 0 {
		t.Error("keepalives are on")
	}
}

// The retries of a start find the connection open, and the next refresh does not: the network has likely forgotten it by then.
func TestAConnectionIsKeptForRetriesAndNotForTheNextRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(nil)
		defer tr.CloseIdleConnections()
		dials := 0
		tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
			dials++
			near, far := net.Pipe()
			go answerAll(far)
			return near, nil
		}
		for i, c := range []struct {
			after time.Duration
			dials int
		}{{0, 1}, {idleTimeout - time.Second, 1}, {idleTimeout + time.Second, 2}} {
			time.Sleep(c.after) // fake time
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://store/", nil)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			synctest.Wait()
			if dials != c.dials {
				t.Errorf("request %d, %v after the one before: %d dials, want %d", i, c.after, dials, c.dials)
			}
		}
		if idleTimeout < maxRetryPause || idleTimeout > time.Minute {
			t.Errorf("a connection is kept for %v, want longer than a start's pauses, and not until the next refresh", idleTimeout)
		}
	})
}

// maxRetryPause is the longest pause between two reads of a start: see tlsstate's maxRetry.
const maxRetryPause = 10 * time.Second

// answerAll answers every request on a connection, with nothing.
func answerAll(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")); err != nil {
			return
		}
	}
}

// A handshake that hangs is told apart from an answer that does.
func TestAHandshakeThatHangsIsEndedByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(nil)
		tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				for b := make([]byte, 1<<10); ; {
					if _, err := far.Read(b); err != nil {
						return
					}
				}
			}()
			return near, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://store/", nil)
		began := time.Now()
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Fatal("it succeeded")
		}
		if took := time.Since(began); took != handshakeTimeout {
			t.Errorf("it ended after %v: %v", took, err)
		}
	})
}

// A write that may have arrived is not sent twice behind its caller's back: only a read changes nothing.
func TestAWriteIsNotRepeatedWhenItsConnectionBreaks(t *testing.T) {
	t.Parallel()
	srv := startSim(t)
	w := open(t, srv).Writer(WriterConfig{})
	if _, err := w.Put(t.Context(), "/p", []byte("first")); err != nil {
		t.Fatal(err)
	}
	srv.FailNext("", 1, ssmsim.Reset()) // on the connection that was kept
	if _, err := w.Put(t.Context(), "/p", []byte("second")); err == nil {
		t.Error("a write without an answer succeeded")
	}
	if n := srv.Count("PutParameter"); n != 2 {
		t.Errorf("%d writes arrived, want 2", n)
	}
}
