// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"net"
	"net/netip"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// dialled is a raw connection to a listener that says nothing.
func dialled(t testing.TB) (conn net.Conn, addr netip.AddrPort) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	addr = l.Addr().(*net.TCPAddr).AddrPort()
	conn, err = dialTCP(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, addr
}

// R15: a socket with nothing in it says nothing of what its reader has just taken out: that may have been the end.
func TestASpareWhoseReaderIsAtWorkIsNotQuiet(t *testing.T) {
	t.Parallel()
	conn, _ := dialled(t)
	w := newWire(conn, new(bufpool.Pool))
	if w.quiet() {
		t.Error("it is quiet, and nobody waits for what may come")
	}
	waited := make(chan error, 1)
	go func() { waited <- w.wait() }()
	if !waittest.Within(waittest.Patience, w.quiet) {
		t.Error("it is never quiet, although its reader waits")
	}
	_ = conn.Close()
	<-waited
}

// R2: a connection that was opened ahead is used through its own gateway alone: configuration and sessions are each gateway's.
func TestAConnectionThatWasOpenedAheadIsNotUsedForAnotherAddress(t *testing.T) {
	t.Parallel()
	conn, addr := dialled(t)
	p := &preconnected{}
	p.since = p.clock.Now()
	p.conn.Store(&Conn{wire: newWire(conn, new(bufpool.Pool))})
	if p.take(netip.AddrPortFrom(addr.Addr(), addr.Port()^1)) != nil {
		t.Error("it was given to a dial of another address")
	}
	if p.take(addr) != conn {
		t.Error("it was not given to a dial of its own address")
	}
	if p.take(addr) != nil {
		t.Error("it was given away twice")
	}
}
