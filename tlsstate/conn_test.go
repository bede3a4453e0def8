// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// certDocument is a document of which only the shape matters.
func certDocument(t testing.TB) mesh.Document {
	t.Helper()
	return certtest.Document(t, "fn")
}

// R7: exactly the bytes sent arrive, both ways at once, whatever the sizes of writes and reads.
func TestBytesAreExactInBothDirectionsAtOnce(t *testing.T) {
	t.Parallel()
	for _, chunk := range []int{1, 100, 4096, 16 << 10, 16<<10 + 1, 50_000, 300 << 10} {
		for how, r := range readings {
			t.Run(fmt.Sprintf("chunks=%d/%s", chunk, how), func(t *testing.T) {
				t.Parallel()
				total := min(chunk*500, 300<<10)
				if r.size == 1 {
					total = min(total, 50<<10)
				}
				data := pattern(total)
				p := newPair(t, pairConfig{tickets: true})
				var work sync.WaitGroup
				work.Go(func() { writeChunks(t, p.Conn, data, chunk) })
				work.Go(func() { writeChunks(t, p.far, data, chunk) })
				work.Go(func() {
					got, err := io.ReadAll(p.far)
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("the far end got %d of %d bytes (or they differ), %v", len(got), len(data), err)
					}
				})
				got, err := r.readAll(p.Conn)
				if err != io.EOF || !bytes.Equal(got, data) {
					t.Errorf("%d of %d bytes came (or they differ), %v", len(got), len(data), err)
				}
				work.Wait()
				p.holdsNothing(t)
			})
		}
	}
}

// writeChunks writes data in pieces, then half-closes.
func writeChunks(t testing.TB, c interface {
	io.Writer
	CloseWrite() error
}, data []byte, size int) {
	for len(data) > 0 {
		n, err := c.Write(data[:min(size, len(data))])
		if err != nil {
			t.Errorf("writing: %v", err)
			return
		}
		data = data[n:]
	}
	if err := c.CloseWrite(); err != nil {
		t.Errorf("half-closing: %v", err)
	}
}

// R6: each direction ends by itself.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		t.Run("ours first", func(t *testing.T) {
			t.Parallel()
			p := newPair(t, pairConfig{version: version})
			if err := p.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if n, err := p.far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Fatalf("the far end read %d, %v; want a clean end", n, err)
			}
			if _, err := p.Write([]byte("x")); err == nil {
				t.Error("something was written after the end")
			}
			data := pattern(100_000)
			go writeChunks(t, p.far, data, 30_000)
			if got, err := (reading{1000, true}).readAll(p.Conn); err != io.EOF || !bytes.Equal(got, data) {
				t.Errorf("after our end %d of %d bytes came, %v", len(got), len(data), err)
			}
		})
		t.Run("theirs first", func(t *testing.T) {
			t.Parallel()
			p := newPair(t, pairConfig{version: version})
			if err := p.far.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if n, err := p.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Fatalf("read %d, %v; want a clean end", n, err)
			}
			data := pattern(100_000)
			go writeChunks(t, p.Conn, data, 30_000)
			if got, err := io.ReadAll(p.far); err != nil || !bytes.Equal(got, data) {
				t.Errorf("after their end %d of %d bytes arrived, %v", len(got), len(data), err)
			}
		})
	})
}

// R6: a peer that takes long to make room still gets a clean end. crypto/tls gives up after 5 s, and the stream, complete
// as it was, would have to be cut.
func TestHalfCloseWaitsForASlowPeer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipePair(t, pairConfig{})
		half := make(chan error, 1)
		go func() { half <- p.CloseWrite() }()
		time.Sleep(30 * time.Second)
		_ = p.far.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := p.far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("the far end read %d, %v; want a clean end", n, err)
		}
		if err := <-half; err != nil {
			t.Errorf("half-closing: %v", err)
		}
	})
}

// R6: what waits for room in a half-close can be ended.
func TestHalfCloseThatWaitsEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*pair) error{
		"Close":            func(p *pair) error { return p.Close() },
		"Reset":            func(p *pair) error { return p.Reset() },
		"a write deadline": func(p *pair) error { return p.SetWriteDeadline(time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPipePair(t, pairConfig{})
				half := make(chan error, 1)
				go func() { half <- p.CloseWrite() }()
				synctest.Wait()
				began := time.Now()
				_ = end(p)
				if err := <-half; err == nil {
					t.Error("half-closed, though nobody read it")
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// Close is also how a write that hangs is ended, as it is with crypto/tls: at once, and not only after the 5 s in which
// close_notify would wait behind it. The size of the write makes no difference.
func TestCloseEndsAWriteThatHangs(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 100_000} {
		t.Run(fmt.Sprintf("write of %d", size), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPipePair(t, pairConfig{})
				written := make(chan error, 1)
				go func() { _, err := p.Write(pattern(size)); written <- err }()
				synctest.Wait()
				began := time.Now()
				_ = p.Close()
				if took := time.Since(began); took != 0 {
					t.Errorf("closing took %v", took)
				}
				if err := <-written; err == nil {
					t.Error("the write succeeded, though nobody read it")
				}
			})
		})
	}
}

// Close is bounded when the peer makes no room for close_notify.
func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipePair(t, pairConfig{})
		began := time.Now()
		_ = p.Close()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("closing took %v", took)
		}
	})
}

// A write that a deadline ended may have sent part of a record: nothing may follow it.
func TestNothingIsSentAfterAFailedWrite(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 100_000} {
		t.Run(fmt.Sprintf("write of %d", size), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPipePair(t, pairConfig{})
				_ = p.SetWriteDeadline(time.Now().Add(time.Second))
				n, err := p.Write(pattern(size))
				if n != 0 || !isTimeout(err) {
					t.Fatalf("wrote %d, %v; want a timeout", n, err)
				}
				_ = p.SetWriteDeadline(time.Time{})
				for _, again := range []int{1, 100_000} {
					if _, err := p.Write(pattern(again)); err == nil {
						t.Errorf("%d bytes were sent after a write that failed", again)
					}
				}
				if err := p.CloseWrite(); err == nil {
					t.Error("a clean end was sent after a write that failed")
				}
			})
		})
	}
}

// R5: Close says that the stream is complete, Reset that it is not.
func TestPeerCanTellCloseFromReset(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		for name, tc := range map[string]struct {
			end  func(*pair) error
			want func(error) bool
		}{
			"Close": {func(p *pair) error { return p.Close() }, isEOF},
			"Reset": {func(p *pair) error { return p.Reset() }, isReset},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, pairConfig{version: version})
				if err := tc.end(p); err != nil {
					t.Fatal(err)
				}
				if _, err := p.far.Read(make([]byte, 1)); !tc.want(err) {
					t.Errorf("the far end read %v", err)
				}
				p.Wait() // does not block
				if n, err := p.Read(make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
					t.Errorf("reading after it: %d, %v", n, err)
				}
				if _, err := p.Write(make([]byte, 1)); err == nil {
					t.Error("writing after it succeeded")
				}
				if _, err := p.Write(make([]byte, 100_000)); err == nil {
					t.Error("writing much after it succeeded")
				}
			})
		}
	})
}

// Read returns as many records as have arrived, so that a large buffer saves the caller's system calls.
func TestReadReturnsManyRecords(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		for name, wait := range map[string]bool{"Read": false, "Wait, Read": true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, pairConfig{version: version})
				data := pattern(30_000)
				var sealed []byte
				for i := 0; i < len(data); i += 1000 {
					sealed = append(sealed, p.far.sealed(t, data[i:i+1000])...)
				}
				p.far.send(t, sealed) // one write on loopback: all of it has arrived when it returns
				if wait {
					p.Wait()
				}
				got := make([]byte, 64<<10)
				n, err := p.Read(got)
				if err != nil || !bytes.Equal(got[:n], data) {
					t.Errorf("one Read returned %d bytes of 30 records of 1000, %v", n, err)
				}
				p.holdsNothing(t)
			})
		}
	})
}

// A full record that is followed by part of another is returned at once, and the part is not lost.
func TestReadDoesNotWaitForTheRestOfARecord(t *testing.T) {
	t.Parallel()
	p := newPair(t, pairConfig{})
	first, second := p.far.sealed(t, []byte("first")), p.far.sealed(t, []byte("second"))
	for cut := range second {
		if cut == 0 {
			continue
		}
		p.far.send(t, append(append([]byte(nil), first...), second[:cut]...))
		got := make([]byte, 100)
		if n, err := p.Read(got); err != nil || string(got[:n]) != "first" {
			t.Fatalf("cut at %d: %q, %v", cut, got[:n], err)
		}
		p.holdsNothing(t)
		p.far.send(t, second[cut:])
		if n, err := p.Read(got); err != nil || string(got[:n]) != "second" {
			t.Fatalf("cut at %d: %q, %v", cut, got[:n], err)
		}
		first, second = p.far.sealed(t, []byte("first")), p.far.sealed(t, []byte("second"))
	}
}

// countingConn counts the writes to a TCP connection.
type countingConn struct {
	*net.TCPConn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.TCPConn.Write(p)
}

// Up to 256 KiB of a large write are one system call, and a small write goes out by itself, at once.
func TestWritesAreCollectedWithinOneCallOnly(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		for _, size := range []int{1, 1000, 16 << 10, 16<<10 + 1, 64 << 10, 256 << 10, 512 << 10} {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				t.Parallel()
				writes := new(atomic.Int64)
				p := newPair(t, pairConfig{version: version, wrap: func(c *net.TCPConn) net.Conn { return countingConn{c, writes} }})
				data := pattern(size)
				for i := range 3 {
					writes.Store(0)
					got := make(chan []byte, 1)
					go func() {
						b := make([]byte, size)
						_, _ = io.ReadFull(p.far, b)
						got <- b
					}()
					if n, err := p.Write(data); n != size || err != nil {
						t.Fatalf("wrote %d, %v", n, err)
					}
					if !bytes.Equal(<-got, data) { // before anything else is written
						t.Errorf("write %d: other bytes arrived", i)
					}
					if n, want := writes.Load(), int64(size+256<<10-1)>>18; n != want {
						t.Errorf("write %d of %d bytes took %d calls, want %d", i, size, n, want)
					}
				}
			})
		}
	})
}

// Wait is what makes an idle connection cheap: it holds no buffer, before and after session tickets.
func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		p := newPair(t, pairConfig{version: version, tickets: true})
		if p.bufs.Lent() != 0 {
			t.Errorf("%d bytes are lent after the handshake", p.bufs.Lent())
		}
		waited := make(chan struct{})
		go func() {
			p.Wait()
			close(waited)
		}()
		// Nothing but tickets arrives, which Wait has to read, and must not return for.
		for range 20 {
			time.Sleep(time.Millisecond)
			p.holdsNothing(t)
		}
		select {
		case <-waited:
			t.Fatal("Wait returned, and there was nothing to read")
		default:
		}
		for i := range 10 {
			if _, err := p.far.Write([]byte("ab")); err != nil {
				t.Fatal(err)
			}
			<-waited
			p.Wait() // twice is as good as once
			b := make([]byte, 3)
			if n, err := p.Read(b); err != nil || string(b[:n]) != "ab" {
				t.Fatalf("message %d: %q, %v", i, b[:n], err)
			}
			waited = make(chan struct{})
			go func() {
				p.Wait()
				close(waited)
			}()
			p.holdsNothing(t)
		}
		_ = p.far.CloseWrite()
		<-waited
	})
}

// A read deadline ends Wait and Read, and may do so anywhere without a byte being lost.
func TestReadDeadlineLosesNothing(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		for how, r := range readings {
			t.Run(how, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, pairConfig{version: version})
				data := pattern(20_000)
				sealed := append(p.far.sealed(t, data), p.far.closeNotify(t)...)
				buf := make([]byte, r.size)
				var got []byte
				// Cuts within headers, records, tags and close_notify.
				last := 0
				for _, cut := range []int{0, 1, 4, 5, 6, 1000, 16<<10 + 10, 16<<10 + 30, 20_000, len(sealed) - 8, len(sealed) - 1} {
					p.far.send(t, sealed[last:cut])
					last = cut
					for {
						_ = p.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
						if r.wait {
							p.Wait()
						}
						n, err := p.Read(buf)
						got = append(got, buf[:n]...)
						if isTimeout(err) && n == 0 {
							break
						}
						if err != nil {
							t.Fatalf("after %d bytes of the stream: %v", cut, err)
						}
					}
					p.holdsNothing(t)
				}
				_ = p.SetReadDeadline(time.Now().Add(patience))
				p.far.send(t, sealed[last:])
				rest, err := r.readAll(p.Conn)
				if got = append(got, rest...); err != io.EOF || !bytes.Equal(got, data) {
					t.Errorf("%d of %d bytes came (or they differ), %v", len(got), len(data), err)
				}
			})
		}
	})
}

// A deadline in the past ends what is waiting now: it is how a relay calls a reader back.
func TestReadDeadlineEndsWhatWaitsAlready(t *testing.T) {
	t.Parallel()
	for name, block := range map[string]func(*pair) error{
		"Wait": func(p *pair) error { p.Wait(); _, err := p.Read(make([]byte, 1)); return err },
		"Read": func(p *pair) error { _, err := p.Read(make([]byte, 1)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, pairConfig{})
			ended := make(chan error, 1)
			go func() { ended <- block(p) }()
			select {
			case err := <-ended:
				t.Fatalf("ended by itself: %v", err)
			case <-time.After(10 * time.Millisecond):
			}
			_ = p.SetReadDeadline(time.Unix(1, 0))
			if err := <-ended; !isTimeout(err) {
				t.Errorf("ended with %v, want a timeout", err)
			}
			p.holdsNothing(t)
			_ = p.SetReadDeadline(time.Now().Add(patience))
			_, _ = p.far.Write([]byte("x"))
			b := make([]byte, 2)
			if n, err := p.Read(b); n != 1 || err != nil {
				t.Errorf("afterwards: %d, %v", n, err)
			}
		})
	}
}

// Reading nothing says nothing, and does not wait.
func TestEmptyReadAndWrite(t *testing.T) {
	t.Parallel()
	p := newPair(t, pairConfig{})
	if n, err := p.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil) is %d, %v", n, err)
	}
	if n, err := p.Write(nil); n != 0 || err != nil {
		t.Errorf("Write(nil) is %d, %v", n, err)
	}
	go func() { _, _ = p.far.Write([]byte("x")) }()
	p.Wait()
	if n, err := p.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil) with a byte there is %d, %v", n, err)
	}
	b := make([]byte, 2)
	if n, err := p.Read(b); n != 1 || err != nil || b[0] != 'x' {
		t.Errorf("then %d, %v", n, err)
	}
}

// What was read ahead is given back by whoever ends the connection.
func TestUnreadBytesAreGivenBackAtTheEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*pair) error{
		"Close": func(p *pair) error { return p.Close() },
		"Reset": func(p *pair) error { return p.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, pairConfig{})
			p.far.send(t, p.far.sealed(t, pattern(100_000)))
			for p.bufs.Lent() == 0 {
				if _, err := p.Read(make([]byte, 500)); err != nil {
					t.Fatalf("nothing was read ahead: %v", err)
				}
			}
			_ = end(p)
			if n := p.bufs.Lent(); n != 0 {
				t.Errorf("%d bytes are still lent", n)
			}
		})
	}
}

// R12: whoever ends a connection may do so while others use it, at any moment.
func TestEndingAConnectionInUse(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*pair) error{
		"Close": func(p *pair) error { return p.Close() },
		"Reset": func(p *pair) error { return p.Reset() },
		"both": func(p *pair) error {
			go p.Close()
			return p.Reset()
		},
	} {
		for use, r := range map[string]reading{"Read": {4096, false}, "Wait and Read": {4096, true}} {
			t.Run(name+" during "+use, func(t *testing.T) {
				t.Parallel()
				for i := range 8 {
					p := newPair(t, pairConfig{tickets: true})
					var users sync.WaitGroup
					users.Go(func() { _, _ = io.Copy(p.far, p.far) })
					users.Go(func() { _, _ = r.readAll(p.Conn) })
					users.Go(func() {
						for size := 1; ; size = size*3%200_000 + 1 {
							if _, err := p.Write(pattern(size)); err != nil {
								return
							}
						}
					})
					time.Sleep(time.Duration(i) * 200 * time.Microsecond) // the moment is as good as any
					_ = end(p)
					_ = p.far.tap.Close()
					users.Wait()
					p.holdsNothing(t)
				}
			})
		}
	}
}

// SyscallConn and the addresses are those of the raw connection.
func TestAddressesAndDescriptor(t *testing.T) {
	t.Parallel()
	p := newPair(t, pairConfig{})
	if p.LocalAddr().String() != p.far.RemoteAddr().String() || p.RemoteAddr().String() != p.far.LocalAddr().String() {
		t.Errorf("the addresses are %v and %v", p.LocalAddr(), p.RemoteAddr())
	}
	raw, err := p.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	if err := raw.Control(func(uintptr) { seen = true }); err != nil || !seen {
		t.Errorf("the descriptor was not seen: %v", err)
	}
}

// Without a descriptor (in memory, in tests of other packages) all else is the same.
func TestConnectionWithoutADescriptor(t *testing.T) {
	t.Parallel()
	for how, r := range readings {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := newPipePair(t, pairConfig{})
			if _, err := p.SyscallConn(); err == nil {
				t.Error("a pipe has a descriptor")
			}
			data := pattern(50_000)
			var work sync.WaitGroup
			work.Go(func() { writeChunks(t, p.far, data, 20_000) })
			got, err := r.readAll(p.Conn)
			if err != io.EOF || !bytes.Equal(got, data) {
				t.Errorf("%d of %d bytes came (or they differ), %v", len(got), len(data), err)
			}
			work.Wait()
			_ = p.far.tap.Close()
			p.holdsNothing(t)
		})
	}
	t.Run("cut", func(t *testing.T) {
		t.Parallel()
		p := newPipePair(t, pairConfig{})
		_ = p.far.tap.Close()
		if _, err := p.Read(make([]byte, 1)); !isTruncated(err) {
			t.Errorf("ended with %v", err)
		}
	})
}
