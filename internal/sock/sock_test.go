// SPDX-License-Identifier: MPL-2.0

package sock_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/sock"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// Both ends of a connection.
func pair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialled, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = dialled.(*net.TCPConn), accepted.(*net.TCPConn)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// reader reads as the proxy does.
type reader struct{ raw syscall.RawConn }

func newReader(t testing.TB, c *net.TCPConn) reader {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return reader{raw}
}

func (r reader) Read(p []byte) (n int, err error) {
	waitErr := r.raw.Read(func(fd uintptr) bool {
		n, err = sock.Read(fd, p)
		return err != syscall.EAGAIN
	})
	switch {
	case waitErr != nil:
		return 0, waitErr
	case n == 0 && err == nil:
		return 0, io.EOF
	}
	return n, err
}

// Whatever the sizes, and though there is little room: what was written is read, byte for byte, and then its end.
func TestEveryByteArrivesInOrder(t *testing.T) {
	t.Parallel()
	const seed, room = 1, 64 << 10
	random := rand.New(rand.NewPCG(seed, seed))
	sizes := []int{0, 1, 16 * room} // the last one is net's
	for range 200 {
		sizes = append(sizes, random.IntN(room/4))
	}
	for range 20 {
		sizes = append(sizes, random.IntN(2*room))
	}
	total := 0
	for _, n := range sizes {
		total += n
	}
	sent := make([]byte, total)
	for i := range sent {
		sent[i] = byte(i * 31 >> 3)
	}
	a, b := pair(t)
	if err := errors.Join(a.SetWriteBuffer(room), b.SetReadBuffer(room)); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- writeAll(a, sent, sizes) }()
	got, err := io.ReadAll(newReader(t, b))
	_ = b.Close() // also ends the writer, if it is not done
	if err := errors.Join(err, <-wrote); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes arrived, not the %d that were sent", len(got), total)
	}
}

// writeAll writes p in pieces of these sizes, and ends it.
func writeAll(c *net.TCPConn, p []byte, sizes []int) error {
	defer c.Close()
	w := sock.NewWriter(c)
	for _, n := range sizes {
		if m, err := w.Write(p[:n]); m != n || err != nil {
			return fmt.Errorf("%d of %d bytes: %w", m, n, err)
		}
		p = p[n:]
	}
	return c.CloseWrite()
}

// Whoever looks at an error, or reads it in a log, finds what package net would have said.
func TestAWriterFailsAsTheConnectionItselfDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		brk   func(a, b *net.TCPConn)
		cause error
	}{
		"a deadline": {func(a, _ *net.TCPConn) { _ = a.SetWriteDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"closed":     {func(a, _ *net.TCPConn) { a.Close() }, net.ErrClosed},
		"half-closed": {func(a, _ *net.TCPConn) {
			_ = a.CloseWrite()
		}, syscall.EPIPE},
	} {
		a, b := pair(t)
		c.brk(a, b)
		_, want := a.Write([]byte("x"))
		n, got := sock.NewWriter(a).Write([]byte("x"))
		if n != 0 || !errors.Is(got, c.cause) || got.Error() != want.Error() {
			t.Errorf("%s: %d, %v; want 0, %v", name, n, got, want)
		}
		if op, ok := errors.AsType[*net.OpError](got); !ok || op.Op != "write" {
			t.Errorf("%s: %#v, want a write's *net.OpError", name, got)
		}
	}
}

func TestAReadTellsNothingAnEndAndAReset(t *testing.T) {
	t.Parallel()
	read := func(c *net.TCPConn) (n int, err error) {
		raw, rawErr := c.SyscallConn()
		if rawErr != nil {
			t.Fatal(rawErr)
		}
		if rawErr := raw.Control(func(fd uintptr) { n, err = sock.Read(fd, make([]byte, 8)) }); rawErr != nil {
			t.Fatal(rawErr)
		}
		return n, err
	}
	is := func(c *net.TCPConn, wantN int, wantErr error) func() bool {
		return func() bool {
			n, err := read(c)
			return n == wantN && err == wantErr
		}
	}
	a, b := pair(t)
	if !is(b, 0, syscall.EAGAIN)() {
		t.Error("nothing arrived, and it is not EAGAIN")
	}
	if _, err := a.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "three bytes", is(b, 3, nil))
	if !is(b, 0, syscall.EAGAIN)() {
		t.Error("no more arrived, and it is not EAGAIN")
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the end", is(b, 0, nil))
	a, b = pair(t)
	_ = a.SetLinger(0)
	a.Close()
	waittest.Until(t, "a reset", is(b, 0, syscall.ECONNRESET))
}

// A write that waits for room ends with what ends the connection's own.
func TestAWriteThatWaitsForRoomEnds(t *testing.T) {
	t.Parallel()
	const piece, room = 16 << 10, 64 << 10 // a write of a piece is ours
	for name, c := range map[string]struct {
		end   func(a, b *net.TCPConn)
		cause error
	}{
		"at the deadline":               {func(a, _ *net.TCPConn) { _ = a.SetWriteDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"when the connection is closed": {func(a, _ *net.TCPConn) { a.Close() }, net.ErrClosed},
		"when the other end resets it": {func(_, b *net.TCPConn) {
			_ = b.SetLinger(0)
			b.Close()
		}, syscall.ECONNRESET},
	} {
		a, b := pair(t)
		if err := errors.Join(a.SetWriteBuffer(room), b.SetReadBuffer(room)); err != nil {
			t.Fatal(err)
		}
		var wrote atomic.Int64
		ended := make(chan error, 1)
		go func() {
			w, p := sock.NewWriter(a), make([]byte, piece)
			for {
				n, err := w.Write(p)
				if wrote.Add(int64(n)); err != nil {
					ended <- err
					return
				}
			}
		}()
		// Nothing is read: when no more is written for a while, the writer waits.
		for last := int64(-1); last != wrote.Load(); {
			last = wrote.Load()
			time.Sleep(20 * time.Millisecond)
		}
		c.end(a, b)
		if err := <-ended; !errors.Is(err, c.cause) {
			t.Errorf("%s: %v, want %v", name, err, c.cause)
		}
		if n := wrote.Load(); n == 0 {
			t.Errorf("%s: nothing was taken", name)
		}
	}
}

// A wrapper may count, delay or change what is written: it is not gone behind.
func TestOnlyABareSocketIsWrittenToDirectly(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	if w, ok := sock.NewWriter(a).(*sock.Writer); !ok {
		t.Errorf("%T writes to a socket", w)
	}
	type wrapped struct{ *net.TCPConn }
	c := wrapped{a}
	if w := sock.NewWriter(c); w != io.Writer(c) {
		t.Errorf("%T writes, not the wrapper", w)
	}
}

func TestAllocationsOfAWriteAndARead(t *testing.T) {
	a, b := pair(t)
	w, p := sock.NewWriter(a), make([]byte, 1024)
	raw, err := b.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	try := func(fd uintptr) bool {
		_, err := sock.Read(fd, p)
		return err != syscall.EAGAIN
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := raw.Read(try); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a write and a read, want 0", n)
	}
}
