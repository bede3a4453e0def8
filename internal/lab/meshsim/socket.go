// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"context"
	"fmt"
	"net"
	"time"
)

// End says how a connection is ended from outside.
type End int

const (
	// EndNotify is an orderly end: close_notify, then FIN. A gateway holds no
	// keys, so there it is the same as EndFIN.
	EndNotify End = iota
	// EndFIN closes TCP without a word from TLS.
	EndFIN
	// EndRST resets.
	EndRST
)

// listen opens a TCP listener whose connections send nothing of their own
// accord: keepalive is off, as Envoy has it by default. Multipath TCP, which Go
// listeners offer, is off too, as it takes neither splice nor a socket filter.
func listen(addr string) (*net.TCPListener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("meshsim: listening: %w", err)
	}
	return ln.(*net.TCPListener), nil
}

// dial opens a TCP connection with the same properties.
func dial(ctx context.Context, addr string, timeout time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: -1}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// reset closes c so that its peer sees RST.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// pastDeadline makes a pending read return. Its value is any time gone by.
var pastDeadline = time.Unix(1, 0)
