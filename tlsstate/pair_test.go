// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// pair is a Conn and what it is connected to, with the test in charge of each byte between them.
type pair struct {
	*tlsstate.Conn
	raw  net.Conn // beneath the Conn
	bufs *bufpool.Pool
	far  *far
}

// far is the other end of a pair.
type far struct {
	*tls.Conn
	tap *tap // beneath it
}

// tap is a connection that can keep what is written to it.
type tap struct {
	net.Conn
	mu   sync.Mutex
	keep bool
	kept []byte
}

func (c *tap) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keep {
		c.kept = append(c.kept, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// SetWriteDeadline does nothing: crypto/tls lets nothing through after its close_notify, but tests do.
func (c *tap) SetWriteDeadline(time.Time) error { return nil }

// seal returns the records that write makes, unsent.
func (f *far) seal(t testing.TB, write func() error) []byte {
	t.Helper()
	f.tap.mu.Lock()
	f.tap.keep = true
	f.tap.mu.Unlock()
	err := write()
	f.tap.mu.Lock()
	defer f.tap.mu.Unlock()
	kept := f.tap.kept
	f.tap.keep, f.tap.kept = false, nil
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// sealed returns the records that carry data, unsent.
func (f *far) sealed(t testing.TB, data []byte) []byte {
	t.Helper()
	return f.seal(t, func() error { _, err := f.Write(data); return err })
}

// closeNotify returns the record that says that the stream has ended, unsent.
func (f *far) closeNotify(t testing.TB) []byte {
	t.Helper()
	return f.seal(t, f.CloseWrite)
}

// send sends bytes as they are.
func (f *far) send(t testing.TB, p []byte) {
	t.Helper()
	if _, err := f.tap.Conn.Write(p); err != nil {
		t.Fatal(err)
	}
}

// fin ends the TCP stream, and only that.
func (f *far) fin(t testing.TB) {
	t.Helper()
	if err := f.tap.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// rst resets the TCP connection.
func (f *far) rst() {
	_ = f.tap.Conn.(*net.TCPConn).SetLinger(0)
	_ = f.tap.Conn.Close()
}

// pairConfig describes a pair. The zero value works.
type pairConfig struct {
	version uint16                          // 0: 1.3
	tickets bool                            // whether the far end sends them
	wrap    func(raw *net.TCPConn) net.Conn // what the Conn is made over
	far     func(*tls.Config)
}

// farLeaf is shown by the far end; who it is does not matter at this level.
var farLeaf = sync.OnceValues(func() (*meshsim.Leaf, error) {
	ca, err := meshsim.NewCA(meshsim.CAConfig{})
	if err != nil {
		return nil, err
	}
	id, err := ca.GatewayID()
	if err != nil {
		return nil, err
	}
	return ca.Issue(id, meshsim.LeafOptions{})
})

// newPair connects a pair over loopback; both ends are closed with the test.
func newPair(t testing.TB, cfg pairConfig) *pair {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.wrap != nil {
		near = cfg.wrap(near.(*net.TCPConn))
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	_ = near.SetDeadline(deadline)
	_ = accepted.SetDeadline(deadline)
	return shake(t, near, accepted, cfg)
}

// newPipePair is newPair in memory, for bubbles of synctest. A write lasts until it is read.
func newPipePair(t testing.TB, cfg pairConfig) *pair {
	t.Helper()
	a, b := net.Pipe()
	return shake(t, a, b, cfg)
}

func shake(t testing.TB, near, other net.Conn, cfg pairConfig) *pair {
	t.Helper()
	if cfg.version == 0 {
		cfg.version = tls.VersionTLS13
	}
	leaf, err := farLeaf()
	if err != nil {
		t.Fatal(err)
	}
	farConfig := &tls.Config{
		Certificates:                []tls.Certificate{leaf.Certificate},
		MinVersion:                  cfg.version,
		MaxVersion:                  cfg.version,
		SessionTicketsDisabled:      !cfg.tickets,
		DynamicRecordSizingDisabled: true,
	}
	if cfg.far != nil {
		cfg.far(farConfig)
	}
	p := &pair{raw: near, bufs: new(bufpool.Pool)}
	tapped := &tap{Conn: other}
	p.far = &far{Conn: tls.Server(tapped, farConfig), tap: tapped}
	shaken := make(chan error, 1)
	go func() { shaken <- p.far.Handshake() }()
	p.Conn, err = tlsstate.Handshake(context.Background(), near, &tls.Config{
		InsecureSkipVerify:          true, // who the far end is is not the question here
		ClientSessionCache:          tls.NewLRUClientSessionCache(1),
		DynamicRecordSizingDisabled: true,
	}, p.bufs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Reset()
		_ = other.Close()
	})
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return p
}

// holdsNothing waits until the Conn has no buffer borrowed.
func (p *pair) holdsNothing(t testing.TB) {
	t.Helper()
	waittest.Until(t, "all buffers given back", func() bool { return p.bufs.Lent() == 0 })
}

// reading is one way of reading a Conn.
type reading struct {
	size int  // of the buffer
	wait bool // whether each Read follows a Wait
}

// readings are the ways that matter: a byte at a time, across and within records, many records at once.
var readings = map[string]reading{
	"tiny":               {1, false},
	"tiny after Wait":    {1, true},
	"odd":                {1000, false},
	"odd after Wait":     {1000, true},
	"large":              {256 << 10, false},
	"large after Wait":   {256 << 10, true},
	"past a record":      {16<<10 + 1, false},
	"past one, and Wait": {16<<10 + 1, true},
}

// readAll reads until an error comes, which it returns as it is.
func (r reading) readAll(c *tlsstate.Conn) (got []byte, err error) {
	buf := make([]byte, r.size)
	for {
		if r.wait {
			c.Wait()
		}
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			return got, err
		}
		if n == 0 {
			return got, io.ErrNoProgress
		}
	}
}
