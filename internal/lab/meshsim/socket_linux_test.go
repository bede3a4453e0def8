// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// segmentsReceived returns how many TCP segments with data came for c.
func segmentsReceived(c *net.TCPConn) (n int, known bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n, known = int(info.Data_segs_in), true
		}
	})
	return n, known
}

func TestUnreachableGatewayDoesNotEvenRefuse(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	addService(t, m, "web", nil)
	open := connect(t, m, "web")
	ok(t, m.Gateway.Unreachable(true))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := dial(ctx, m.Gateway.Addr(), 150*time.Millisecond); !isTimeout(err) {
		t.Errorf("dial: %v, want a time-out", err)
	}
	roundTrip(t, open, "not concerned")
	ok(t, m.Gateway.Unreachable(false))
	roundTrip(t, connect(t, m, "web"), "reachable")
	m.Gateway.Refuse()
	if err := m.Gateway.Unreachable(true); err == nil {
		t.Error("no error without a listener")
	}
}

// R19 relies on TCP_USER_TIMEOUT: it can only fire if nothing is acknowledged.
func TestForgottenConnectionAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	addService(t, m, "web", nil)
	c := connect(t, m, "web")
	raw, err := c.NetConn().(*net.TCPConn).SyscallConn()
	ok(t, err)
	ok(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 250)
	}))
	ok(t, err)
	m.Gateway.Forget()
	_, err = c.Write([]byte("anyone?"))
	ok(t, err)
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("read: %v, want ETIMEDOUT", err)
	}
}
