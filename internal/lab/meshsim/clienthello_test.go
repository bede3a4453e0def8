// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// scriptConn lets crypto/tls read in and keeps what it writes.
type scriptConn struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *scriptConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *scriptConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *scriptConn) Close() error                     { return nil }
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// helloFor returns the ClientHello that crypto/tls sends.
func helloFor(cfg *tls.Config) []byte {
	c := &scriptConn{in: bytes.NewReader(nil)}
	cfg.InsecureSkipVerify = true
	_ = tls.Client(c, cfg).HandshakeContext(context.Background())
	return c.out.Bytes()
}

// serverView returns the server name that a crypto/tls server sees in b. ok is
// false if it does not get that far.
func serverView(b []byte) (name string, ok bool) {
	stop := errors.New("seen enough")
	srv := tls.Server(&scriptConn{in: bytes.NewReader(b)}, &tls.Config{
		GetConfigForClient: func(chi *tls.ClientHelloInfo) (*tls.Config, error) {
			name, ok = chi.ServerName, true
			return nil, stop
		},
	})
	_ = srv.HandshakeContext(context.Background())
	return name, ok
}

// fragment cuts the one record of hello into records of at most size bytes.
func fragment(hello []byte, size int) []byte {
	var out []byte
	for body := hello[recordHeaderLen:]; len(body) > 0; {
		n := min(size, len(body))
		out = append(out, hello[0], hello[1], hello[2], byte(n>>8), byte(n))
		out = append(out, body[:n]...)
		body = body[n:]
	}
	return out
}

func TestServerNameIsFoundHoweverTheHelloIsCut(t *testing.T) {
	t.Parallel()
	const want = "web.default.dc1.internal.11111111-2222-3333-4444-555555555555.consul"
	for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		hello := helloFor(&tls.Config{ServerName: want, MaxVersion: max})
		for _, size := range []int{1, 2, 3, 4, 5, 37, 38, 100, len(hello)} {
			wire := fragment(hello, size)
			for end := range wire {
				_, need, err := clientHelloServerName(wire[:end])
				if err != nil || need <= 0 || end+need > len(wire) {
					t.Fatalf("%d of %d bytes: need %d, %v", end, len(wire), need, err)
				}
			}
			got, need, err := clientHelloServerName(append(wire, "early data"...))
			if got != want || need != 0 || err != nil {
				t.Fatalf("records of %d: %q, need %d, %v", size, got, need, err)
			}
		}
	}
}

func TestHelloWithoutServerNameIsLegal(t *testing.T) {
	t.Parallel()
	name, need, err := clientHelloServerName(helloFor(&tls.Config{ServerName: "127.0.0.1"}))
	if name != "" || need != 0 || err != nil {
		t.Errorf("%q, need %d, %v", name, need, err)
	}
}

// extension and message build a ClientHello by hand, legal but for what they are given.
func extension(kind uint16, data string) string {
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return string(b) + data
}

func serverName(list string) string {
	return extension(extensionServerName, string(binary.BigEndian.AppendUint16(nil, uint16(len(list))))+list)
}

func hostName(kind byte, name string) string {
	return string([]byte{kind, 0, byte(len(name))}) + name
}

func message(extensions, tail string) []byte {
	body := string([]byte{3, 3}) + string(make([]byte, 32)) + "\x00" + "\x00\x02\x13\x01" + "\x01\x00" +
		string(binary.BigEndian.AppendUint16(nil, uint16(len(extensions)))) + extensions + tail
	msg := string([]byte{messageClientHello, 0, byte(len(body) >> 8), byte(len(body))}) + body
	return append([]byte{recordHandshake, 3, 1, byte(len(msg) >> 8), byte(len(msg))}, msg...)
}

func TestMalformedHelloIsRefused(t *testing.T) {
	t.Parallel()
	good := serverName(hostName(0, "a.example"))
	tests := map[string]struct {
		b    []byte
		want error
	}{
		"http":                  {[]byte("GET / HTTP/1.1\r\n"), errNotClientHello},
		"first byte":            {[]byte{'G'}, errNotClientHello},
		"alert":                 {[]byte{21, 3, 1, 0, 2, 1, 0}, errNotClientHello},
		"version 2":             {[]byte{recordHandshake, 2}, errNotClientHello},
		"empty record":          {[]byte{recordHandshake, 3, 1, 0, 0}, errNotClientHello},
		"record overflow":       {[]byte{recordHandshake, 3, 1, 0x40, 1}, errNotClientHello},
		"server hello":          {[]byte{recordHandshake, 3, 3, 0, 1, 2}, errNotClientHello},
		"long message":          {[]byte{recordHandshake, 3, 3, 0, 4, 1, 0, 0x40, 0}, errHelloTooLong},
		"bytes after the end":   {message(good, "x"), errNotClientHello},
		"extension twice":       {message(good+good, ""), errNotClientHello},
		"unknown twice":         {message(extension(4711, "")+extension(4711, ""), ""), errNotClientHello},
		"two host names":        {message(serverName(hostName(0, "a")+hostName(0, "b")), ""), errNotClientHello},
		"empty list":            {message(serverName(""), ""), errNotClientHello},
		"empty name":            {message(serverName(hostName(0, "")), ""), errNotClientHello},
		"trailing dot":          {message(serverName(hostName(0, "a.")), ""), errNotClientHello},
		"bytes after the list":  {message(extension(extensionServerName, "\x00\x04\x00\x00\x01ax"), ""), errNotClientHello},
		"extension runs beyond": {message("\x00\x17\x00\x09", ""), errNotClientHello},
	}
	for name, tt := range tests {
		got, need, err := clientHelloServerName(tt.b)
		if !errors.Is(err, tt.want) || got != "" || need != 0 {
			t.Errorf("%s: %q, need %d, %v; want %v", name, got, need, err, tt.want)
		}
	}
	if name, _, err := clientHelloServerName(message(serverName(hostName(7, "?")+hostName(0, "a.example")), "")); err != nil || name != "a.example" {
		t.Errorf("name of an unknown type beside a host name: %q, %v", name, err)
	}
}

func TestHelloBeyondTheLimitIsRefusedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	hello := helloFor(&tls.Config{ServerName: "a.example", NextProtos: slicesOf(60, 240)})
	if len(hello) < 15_000 || len(hello) > maxClientHello {
		t.Fatalf("hello of %d bytes does not test the limit", len(hello))
	}
	if name, need, err := clientHelloServerName(hello); name != "a.example" || need != 0 || err != nil {
		t.Errorf("just within the limit: %q, %d, %v", name, need, err)
	}
	// The same bytes in tiny records are too many on the wire.
	if _, _, err := clientHelloServerName(fragment(hello, 4)[:maxClientHello]); !errors.Is(err, errHelloTooLong) {
		t.Errorf("beyond: %v", err)
	}
}

func slicesOf(n, size int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = string(bytes.Repeat([]byte{byte('!' + i)}, size))
	}
	return out
}

// Property: whenever a crypto/tls server would get to see a ClientHello in b,
// so do we, with the same server name; and a shorter b asks for more, never
// for more than there is. What is refused below the message (foreign records,
// which crypto/tls skips if they are warnings; odd versions) and what is
// beyond the limit is exempt.
func FuzzClientHelloServerName(f *testing.F) {
	f.Add(helloFor(&tls.Config{ServerName: "web.default.dc1.internal.td.consul"}), uint16(50))
	f.Add(helloFor(&tls.Config{ServerName: "a", MaxVersion: tls.VersionTLS12}), uint16(1))
	f.Add(helloFor(&tls.Config{ServerName: "127.0.0.1", NextProtos: []string{"h2"}}), uint16(3))
	f.Add(fragment(helloFor(&tls.Config{ServerName: "b.example"}), 7), uint16(200))
	f.Add(message(serverName(hostName(7, "?")+hostName(0, "c")), ""), uint16(9))
	f.Add([]byte{recordHandshake, 3, 1, 0, 1, 1}, uint16(0))
	long := message("", "")
	long[3]++ // the record goes on after the message
	f.Add(long, uint16(46))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		name, need, err := clientHelloServerName(b)
		if err != nil && (name != "" || need != 0) {
			t.Fatalf("an error and %q, need %d", name, need)
		}
		exempt := errors.Is(err, errHelloTooLong) || errors.Is(err, errRecord) || len(b) > maxClientHello
		if theirs, seen := serverView(b); seen && !exempt && (err != nil || need != 0 || name != theirs) {
			t.Fatalf("got %q, need %d, %v; crypto/tls sees %q", name, need, err, theirs)
		}
		prefix := b[:min(int(cut), len(b))]
		pname, pneed, perr := clientHelloServerName(prefix)
		switch {
		case err == nil && perr != nil:
			t.Fatalf("a prefix of a good hello is refused: %v", perr)
		case pneed > 0 && len(prefix)+pneed > maxClientHello:
			t.Fatalf("asks for %d bytes after %d", pneed, len(prefix))
		case err == nil && need == 0 && pneed > 0 && len(prefix)+pneed > len(b):
			t.Fatalf("asks for %d bytes after %d of %d", pneed, len(prefix), len(b))
		case perr == nil && pneed == 0 && pname != name:
			t.Fatalf("prefix says %q, the whole %q", pname, name)
		}
	})
}
