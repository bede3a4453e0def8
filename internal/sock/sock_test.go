// SPDX-License-Identifier: MPL-2.0

package sock_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/sock"
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

// Whatever the sizes, and though the reader is slower than the writer: what was written is read, byte for byte, and then its end.
func TestEveryByteArrivesInOrder(t *testing.T) {
	t.Parallel()
	const seed = 1
	random := rand.New(rand.NewPCG(seed, seed))
	sent := make([]byte, 8<<20)
	for i := range sent {
		sent[i] = byte(i * 31 >> 3)
	}
	a, b := pair(t)
	wrote := make(chan error, 1)
	sizes := []int{0, 1, len(sent)} // the last one goes far beyond what the kernel takes at once
	for range 200 {
		sizes = append(sizes, random.IntN(70_000))
	}
	go func() {
		w, rest := sock.NewWriter(a), sent
		for i := len(sizes) - 1; len(rest) > 0; i-- {
			n := min(sizes[max(i, 0)], len(rest))
			if i < 0 {
				n = len(rest)
			}
			if m, err := w.Write(rest[:n]); m != n || err != nil {
				wrote <- errors.Join(err, errors.New("a short write"))
				return
			}
			rest = rest[n:]
		}
		wrote <- a.CloseWrite()
	}()
	got, err := io.ReadAll(io.LimitReader(newReader(t, b), int64(len(sent))+1))
	if err := errors.Join(err, <-wrote); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(sent))
	}
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
	// On loopback what one end does is seen by the other when the call returns.
	a, b := pair(t)
	if n, err := read(b); n != 0 || err != syscall.EAGAIN {
		t.Errorf("nothing arrived: %d, %v", n, err)
	}
	if _, err := a.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if n, err := read(b); n != 3 || err != nil {
		t.Errorf("three bytes arrived: %d, %v", n, err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := read(b); n != 0 || err != nil {
		t.Errorf("the end: %d, %v", n, err)
	}
	a, b = pair(t)
	_ = a.SetLinger(0)
	a.Close()
	if n, err := read(b); n != 0 || err != syscall.ECONNRESET {
		t.Errorf("a reset: %d, %v", n, err)
	}
}

// A write that waits for room ends with what ends the connection's own: it tells how much the kernel took.
func TestAWriteThatWaitsForRoomEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(a, b *net.TCPConn){
		"at the deadline":               func(a, _ *net.TCPConn) { _ = a.SetWriteDeadline(time.Unix(1, 0)) },
		"when the connection is closed": func(a, _ *net.TCPConn) { a.Close() },
		"when the other end resets it": func(_, b *net.TCPConn) {
			_ = b.SetLinger(0)
			b.Close()
		},
	} {
		a, b := pair(t)
		ended := make(chan int, 1)
		p := make([]byte, 64<<20)
		go func() {
			n, err := sock.NewWriter(a).Write(p)
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			ended <- n
		}()
		// Something has been taken when something has arrived; nothing is read, so that the rest will not be.
		if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		end(a, b)
		if n := <-ended; n <= 0 || n >= len(p) {
			t.Errorf("%s: %d of %d bytes were taken", name, n, len(p))
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
