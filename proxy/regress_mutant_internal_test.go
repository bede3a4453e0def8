// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
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
	case <-time.After(waittest.Patience):
		t.Error("nothing was dialled")
	}
}

// R17: memory is given back when nothing has moved for a while. A function that waits for a dial, or for its first call after
// a thaw, shall not share its CPU with the collector.
func TestADialAndAThawAreNoTimeToGiveMemoryBack(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	looks := func(n int) (still int) {
		for range n {
			_, still = s.look(false)
		}
		return still
	}
	if still := looks(3); still != 3 {
		t.Errorf("%d looks in a row that saw nothing, want 3", still)
	}
	if _, still := s.look(true); still != 0 {
		t.Errorf("%d right after a thaw, want 0", still)
	}
	c := newConn(s, &Route{Name: "web"}, nil)
	defer c.giveUp()
	if !s.add(c) {
		t.Fatal("the first connection is one too many")
	}
	defer s.remove(c)
	if still := looks(3); still != 0 {
		t.Errorf("%d during a dial, want 0", still)
	}
	c.established.Store(true)
	looks(1)
	c.received.moved.Add(1)
	if still := looks(1); still != 0 {
		t.Errorf("%d when a byte has moved, want 0", still)
	}
	if still := looks(2); still != 2 {
		t.Errorf("%d two looks later, want 2", still)
	}
}

// R17: what many connections have left is given back when nothing has moved for 5 s, once, and nobody looks on for a few.
func TestMemoryIsGivenBackAfterManyConnections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		accepted, trimmed int64
		after             time.Duration
	}{
		{burst - 1, 0, sweepEvery},
		{burst, burst, trimAfter * sweepEvery},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{})
			s.stats.accepted.Store(c.accepted)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			if !s.sweepWhileOpen(ctx) {
				t.Fatal("it goes on looking")
			}
			if took := time.Since(began); took != c.after || s.trimmed != c.trimmed {
				t.Errorf("%d connections: it looked for %s and gave back what %d left, want %s and %d",
					c.accepted, took, s.trimmed, c.after, c.trimmed)
			}
		})
	}
}
