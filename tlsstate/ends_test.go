// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// The kinds of end that a reader may see.
func isEOF(err error) bool       { return err == io.EOF }
func isTruncated(err error) bool { return errors.Is(err, tlsstate.ErrTruncated) }
func isReset(err error) bool     { return errors.Is(err, syscall.ECONNRESET) }

// isTLSError reports an end that TLS itself pronounced.
func isTLSError(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && !isTruncated(err) && !isReset(err) && !isTimeout(err)
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// R5: only close_notify is the end of a stream. Whatever else ends it is an error, after the bytes that did arrive.
func TestOnlyCloseNotifyIsAnEndOfStream(t *testing.T) {
	t.Parallel()
	// Three records, the last of them short: see DynamicRecordSizingDisabled of the far end.
	data := pattern(40_000)
	whole := data[:32<<10]
	for name, tc := range map[string]struct {
		end  func(t *testing.T, p *pair)
		data []byte // what arrives
		want func(error) bool
	}{
		"close_notify alone": {
			func(t *testing.T, p *pair) { p.far.send(t, p.far.closeNotify(t)) }, nil, isEOF,
		},
		"close_notify later": {
			func(t *testing.T, p *pair) {
				p.far.send(t, p.far.sealed(t, data))
				time.AfterFunc(5*time.Millisecond, func() { _ = p.far.CloseWrite() })
			}, data, isEOF,
		},
		"data and close_notify in one segment": {
			func(t *testing.T, p *pair) { p.far.send(t, append(p.far.sealed(t, data), p.far.closeNotify(t)...)) }, data, isEOF,
		},
		"data, close_notify and FIN": {
			func(t *testing.T, p *pair) {
				p.far.send(t, append(p.far.sealed(t, data), p.far.closeNotify(t)...))
				p.far.fin(t)
			}, data, isEOF,
		},
		"FIN alone": {
			func(t *testing.T, p *pair) { p.far.fin(t) }, nil, isTruncated,
		},
		"FIN between records": {
			func(t *testing.T, p *pair) {
				p.far.send(t, p.far.sealed(t, data))
				p.far.fin(t)
			}, data, isTruncated,
		},
		"FIN between records, later": {
			func(t *testing.T, p *pair) {
				p.far.send(t, p.far.sealed(t, data))
				time.AfterFunc(5*time.Millisecond, func() { _ = p.far.tap.Conn.(*net.TCPConn).CloseWrite() })
			}, data, isTruncated,
		},
		"FIN within a record": {
			func(t *testing.T, p *pair) {
				sealed := p.far.sealed(t, data)
				p.far.send(t, sealed[:len(sealed)-1])
				p.far.fin(t)
			}, whole, isTruncated,
		},
		"FIN within a record's header": {
			func(t *testing.T, p *pair) {
				sealed := p.far.sealed(t, whole)
				p.far.send(t, append(sealed, p.far.sealed(t, data)[:3]...))
				p.far.fin(t)
			}, whole, isTruncated,
		},
		"FIN within close_notify": {
			func(t *testing.T, p *pair) {
				sealed := p.far.sealed(t, data)
				p.far.send(t, append(sealed, p.far.closeNotify(t)[:7]...))
				p.far.fin(t)
			}, data, isTruncated,
		},
		"reset": {
			func(t *testing.T, p *pair) {
				p.far.send(t, p.far.sealed(t, data))
				p.far.rst()
			}, data, isReset,
		},
		"reset within a record": {
			func(t *testing.T, p *pair) {
				sealed := p.far.sealed(t, data)
				p.far.send(t, sealed[:len(sealed)-1])
				p.far.rst()
			}, whole, isReset,
		},
		"an alert": {
			func(t *testing.T, p *pair) {
				p.far.send(t, p.far.sealed(t, data))
				// The far end cannot make sense of this, says so in an alert, and does not close.
				if _, err := p.raw.Write([]byte{23, 3, 3, 0, 32, 31: 0, 36: 0}); err != nil {
					t.Fatal(err)
				}
				if _, err := p.far.Read(make([]byte, 1)); err == nil {
					t.Fatal("the far end took garbage")
				}
			}, data, isTLSError,
		},
		"a forged record": {
			func(t *testing.T, p *pair) {
				sealed := p.far.sealed(t, data)
				sealed[len(sealed)-1] ^= 1
				p.far.send(t, append(sealed, p.far.closeNotify(t)...))
			}, whole, isTLSError,
		},
		"no TLS at all": {
			func(t *testing.T, p *pair) {
				p.far.send(t, append(p.far.sealed(t, data), "HTTP/1.1 400 Bad Request\r\n\r\n"...))
			},
			data, isTLSError,
		},
	} {
		for how, r := range readings {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				t.Run(name+"/"+how+"/"+tls.VersionName(version), func(t *testing.T) {
					t.Parallel()
					p := newPair(t, pairConfig{version: version})
					tc.end(t, p)
					got, err := r.readAll(p.Conn)
					if !bytes.Equal(got, tc.data) {
						t.Errorf("%d bytes came, want %d (or they differ)", len(got), len(tc.data))
					}
					if !tc.want(err) {
						t.Errorf("ended with %v", err)
					}
					for range 2 {
						p.Wait()
						if n, again := p.Read(make([]byte, 1)); n != 0 || !tc.want(again) {
							t.Errorf("asked again: %d, %v", n, again)
						}
					}
					p.holdsNothing(t)
				})
			}
		}
	}
}

// R5: a handshake that is cut is an error, and leaves nothing behind.
func TestCutHandshakeIsAnError(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*net.TCPConn){
		"FIN": func(c *net.TCPConn) { _ = c.CloseWrite() },
		"RST": func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
		"half a record, then FIN": func(c *net.TCPConn) {
			_, _ = c.Write([]byte{22, 3, 3, 0, 100, 2})
			_ = c.CloseWrite()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := listen(t, "127.0.0.1:0", func(raw net.Conn) {
				end(raw.(*net.TCPConn))
				_, _ = io.Copy(io.Discard, raw)
			})
			w := start(t, storeOf(t, certDocument(t)), tlsstate.Config{Gateways: []string{addr}})
			if err := w.refused(t, 0); errors.Is(err, io.EOF) {
				t.Errorf("%v looks like an end of stream", err)
			}
		})
	}
}
