// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// R19: nor does the function's leg send keepalives: a thaw finds their answers overdue.
func TestTheFunctionsLegSendsNoKeepalives(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	dialled := make(chan int, 1)
	addr, err := s.Listen(t.Context(), "127.0.0.1:0", Route{Name: "web", Dial: func(ctx context.Context) (net.Conn, error) {
		on := -1
		s.mu.Lock()
		for c := range s.conns { // one
			control(c.down, func(fd int) { on, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) })
		}
		s.mu.Unlock()
		dialled <- on
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	defer func() {
		cancel()
		<-served
	}()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case on := <-dialled:
		if on != 0 {
			t.Errorf("SO_KEEPALIVE is %d, want 0", on)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing was dialled")
	}
}
