// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// kind is what a call does.
type kind string

// The kinds of calls. Each but late and abort ends with a half-close in both directions.
const (
	echo   kind = "echo"   // what is sent comes back meanwhile
	digest kind = "digest" // the function's end is answered with the SHA-256 of what it sent
	answer kind = "answer" // the function's end is answered with a stream
	source kind = "source" // the answer begins at once
	late   kind = "late"   // the service ends first, and the function goes on
	abort  kind = "abort"  // the function resets the connection half way
	post   kind = "post"   // HTTP: two requests with a body each, one after the other on one connection
)

// call is one connection of the function and what it carries: up bytes to the service, down bytes back (for the kinds that
// choose: answer, source, post), in pieces with a pause before each, so that it lasts.
type call struct {
	id       uint64
	kind     kind
	service  string
	up, down int64
	pause    time.Duration
}

// piece is how much is sent between two pauses.
const piece = 4 << 10

func (c call) String() string {
	return fmt.Sprintf("%d %s %s %d %d %d", c.id, c.kind, c.service, c.up, c.down, c.pause)
}

func parseCall(line string) (c call, err error) {
	_, err = fmt.Sscanf(line, "%d %s %s %d %d %d\n", &c.id, &c.kind, &c.service, &c.up, &c.down, &c.pause)
	return c, err
}

// send writes the first n bytes of one of the call's streams.
func (c call) send(w io.Writer, n int64, stream byte) error {
	body, buf := newBody(c.id, stream), make([]byte, 16<<10)
	if c.pause > 0 {
		buf = buf[:piece]
	}
	for n > 0 {
		if c.pause > 0 {
			time.Sleep(c.pause)
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
		}
		p := buf[:min(int64(len(buf)), n)]
		_, _ = body.Read(p) // never fails
		if _, err := w.Write(p); err != nil {
			return err
		}
		n -= int64(len(p))
	}
	return nil
}

// signal is what a call told the function in the end.
type signal string

const (
	whole   signal = "whole" // all bytes, and a clean end
	cut     signal = "reset" // the bytes before, and a reset: the right sign of a failure (R5, R9)
	short   signal = "short" // a clean end too soon: never right
	wrong   signal = "WRONG" // bytes that nobody sent: never right
	hung    signal = "hung"  // neither bytes nor an end until patience was over
	refused signal = "gone"  // nobody listens: the extension is dead
)

// result is what came of a call.
type result struct {
	call
	signal       signal
	got          int64 // bytes of the answer
	inStream     bool  // something had come through the connection, one way or the other
	began, ended time.Time
	err          error
}

// String tells the whole story.
func (r result) String() string {
	return fmt.Sprintf("call %s ended with %q after %v: %v", r.call, r.signal, r.ended.Sub(r.began).Round(time.Millisecond), r.err)
}

// running is a call under way.
type running struct {
	call
	got  atomic.Int64
	done chan result // capacity 1
}

// patience is for how long nothing may come of a call. A path that acknowledges nothing is given up after 10 s (R19), one that
// is merely silent after the function's end after 60 s (R6), and a freeze lasts seconds.
const patience = 75 * time.Second

// longest is how long any other call may take: the slowest drips some hundred KiB, through a freeze of seconds.
const longest = 25 * time.Second

// start makes the call at the address on which the extension listens. The goroutine ends within patience.
func start(ctx context.Context, s *site, addr string, c call) *running {
	r := &running{call: c, done: make(chan result, 1)}
	go r.run(ctx, s, addr)
	return r
}

func (r *running) run(ctx context.Context, s *site, addr string) {
	out := result{call: r.call, began: time.Now()}
	out.err = r.talk(ctx, s, addr)
	out.ended, out.got = time.Now(), r.got.Load()
	out.signal = classify(out.err)
	out.inStream = s.reached(r.id) || out.got > 0
	r.done <- out
}

// classify says what an error tells the function. A reset that a write was told is a reset, also if a read then ended.
func classify(err error) signal {
	switch {
	case err == nil:
		return whole
	case errors.Is(err, errWrong):
		return wrong
	case errors.Is(err, syscall.ECONNRESET):
		return cut
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return short
	case errors.Is(err, os.ErrDeadlineExceeded):
		return hung
	default:
		return cut
	}
}

func (r *running) talk(ctx context.Context, s *site, addr string) error {
	dialer := net.Dialer{Timeout: patience, KeepAlive: -1}
	dialer.SetMultipathTCP(false)
	raw, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	conn := raw.(*net.TCPConn)
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	_ = conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReaderSize(counted{conn, &r.got}, 16<<10)
	if r.service == banner {
		if err := expect(in, greeting); err != nil {
			return err
		}
	}
	switch r.kind {
	case post:
		for range 2 {
			if err := r.request(conn, in); err != nil {
				return err
			}
		}
		return nil
	case abort:
		_, err := io.WriteString(conn, r.String()+"\n")
		if err == nil {
			err = r.send(conn, r.up/2, requests)
		}
		_ = conn.SetLinger(0)
		return err
	case late:
		return r.goOn(ctx, s, conn, in)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- r.upload(conn) }()
	if err := r.download(in); err != nil {
		return giveUp(conn, err, wrote)
	}
	return ignoreGone(<-wrote)
}

// ignoreGone is for a write that ended after the whole answer was there and ended.
func ignoreGone(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN) {
		return nil
	}
	return err
}

// upload sends the first line and the request, and ends the direction.
func (r *running) upload(conn *net.TCPConn) error {
	if _, err := io.WriteString(conn, r.String()+"\n"); err != nil {
		return err
	}
	if r.kind != source {
		if err := r.send(conn, r.up, requests); err != nil {
			return err
		}
	}
	return conn.CloseWrite()
}

// download reads the answer, which must be the whole and nothing else, to its end.
func (r *running) download(in io.Reader) error {
	want, stream := r.down, answers
	switch r.kind {
	case digest:
		sum := sha256.New()
		_ = call{id: r.id}.send(sum, r.up, requests)
		if err := expect(in, hex.EncodeToString(sum.Sum(nil))); err != nil {
			return err
		}
		return expectEnd(in)
	case echo:
		want, stream = r.up, requests
	}
	if n, err := io.CopyN(newChecker(r.id, stream), in, want); err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", n, want, err)
	}
	return expectEnd(in)
}

// goOn is a call whose service ends first. After its clean end no failure can be told to a function that only writes: the
// service is asked.
func (r *running) goOn(ctx context.Context, s *site, conn *net.TCPConn, in io.Reader) error {
	if _, err := io.WriteString(conn, r.String()+"\n"); err != nil {
		return err
	}
	if err := cmp.Or(expect(in, greeting), expectEnd(in)); err != nil {
		_ = conn.SetLinger(0)
		return err
	}
	if err := r.send(conn, r.up, requests); err != nil {
		_ = conn.SetLinger(0)
		return syscall.ECONNRESET
	}
	if err := conn.CloseWrite(); err != nil {
		return syscall.ECONNRESET
	}
	for limit := time.Now().Add(patience); time.Now().Before(limit) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if known, err := s.fate(r.id); known {
			if err != nil {
				return fmt.Errorf("%w: the service says: %w", syscall.ECONNRESET, err)
			}
			return nil
		}
	}
	return os.ErrDeadlineExceeded
}

// request is one HTTP request. It is written by hand: net/http hides why a write failed.
func (r *running) request(conn *net.TCPConn, in *bufio.Reader) error {
	wrote := make(chan error, 1)
	go func() {
		_, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nCall: %s\r\nContent-Length: %d\r\n\r\n", web, r.call, r.up)
		if err == nil {
			err = r.send(conn, r.up, requests)
		}
		wrote <- err
	}()
	if err := r.response(in); err != nil {
		return giveUp(conn, err, wrote)
	}
	return <-wrote
}

func (r *running) response(in *bufio.Reader) error {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: status %s", errWrong, resp.Status)
	}
	want := newChecker(r.id, answers)
	if _, err := io.Copy(want, resp.Body); err != nil {
		return err
	}
	if want.n != r.down {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// giveUp resets the connection, so that the service does not take what was sent for all, and returns why: the kernel tells a
// reset once, to the read or to the write.
func giveUp(conn *net.TCPConn, err error, wrote <-chan error) error {
	_ = conn.SetLinger(0)
	_ = conn.SetDeadline(time.Unix(1, 0))
	if told := <-wrote; errors.Is(told, syscall.ECONNRESET) {
		return told
	}
	return err
}

func expect(r io.Reader, want string) error {
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		if string(got[:n]) != want[:n] {
			return errWrong
		}
		return err
	}
	if string(got) != want {
		return errWrong
	}
	return nil
}

func expectEnd(r io.Reader) error {
	switch n, err := io.ReadFull(r, make([]byte, 1)); {
	case n > 0:
		return errWrong
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

// counted counts what is read.
type counted struct {
	io.Reader
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}
