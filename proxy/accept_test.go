// SPDX-License-Identifier: MPL-2.0

//go:build linux

package proxy_test

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/proxy"
)

// R12, R17: when accept fails for want of descriptors, the connection waits in the kernel and is taken in once there are
// some. Not parallel: the limit is the process's.
func TestAcceptGoesOnAfterAFailure(t *testing.T) {
	w := start(t, proxy.Config{}, func(context.Context) (net.Conn, error) { // an echo that needs no descriptor
		up, far := net.Pipe()
		go func() {
			_, _ = io.Copy(far, far)
			_ = far.Close()
		}()
		return up, nil
	})
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}
	defer restore()
	dialer := net.Dialer{Control: func(string, string, syscall.RawConn) error {
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}) // the socket exists, no other will
	}}
	c, err := dialer.DialContext(t.Context(), "tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waittest.Until(t, "accept to fail", func() bool { return w.log.Count("cause=accept") == 1 })
	restore()
	_ = c.SetDeadline(time.Now().Add(patience))
	roundTrip(t, c, "patience pays")
}
