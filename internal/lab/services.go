// SPDX-License-Identifier: MPL-2.0

package lab

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
)

// The services of every world.
const (
	Web       = "web"       // HTTP; answers with a [Hello]
	Echo      = "echo"      // TCP; sends back what it receives, while it receives it
	Digest    = "digest"    // TCP; answers only after the client has ended its direction: with the SHA-256 of what came
	Greeter   = "greeter"   // TCP; speaks first: a [Hello] and a line end; then waits for the client to end its direction
	Collector = "collector" // TCP; speaks first and ends its direction, then takes in what the client sends: see [Collection]
	Denied    = "denied"    // HTTP; as Web, but an intention denies the function
)

// addServices starts them, at ports that a user might choose.
func (w *World) addServices() error {
	intentions := new(meshsim.Intentions)
	intentions.Set(w.id, meshsim.Deny)
	for _, s := range []struct {
		name string
		port int
		cfg  meshsim.SidecarConfig
	}{
		{Web, 8080, meshsim.SidecarConfig{Handler: serveHello}},
		{Echo, 7001, meshsim.SidecarConfig{Handler: meshsim.Echo}},
		{Digest, 7002, meshsim.SidecarConfig{Handler: meshsim.Digest}},
		{Greeter, 7003, meshsim.SidecarConfig{Handler: greet}},
		{Collector, 7004, meshsim.SidecarConfig{Handler: w.Collected.handle}},
		{Denied, 8081, meshsim.SidecarConfig{Handler: serveHello, Intentions: intentions, DenyAt: meshsim.DenyOnFirstByte}},
	} {
		if _, err := w.AddService(s.name, s.port, s.cfg); err != nil {
			return err
		}
	}
	return nil
}

// Hello is who called, as the destination's sidecar sees it. Services give it as JSON.
type Hello struct {
	Caller  string `json:"caller"`  // SPIFFE ID
	Leaf    string `json:"leaf"`    // serial number of the caller's leaf, in hexadecimal
	Resumed bool   `json:"resumed"` // the TLS session was resumed
}

func helloTo(c meshsim.Conn) Hello {
	t, ok := c.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return Hello{}
	}
	cs := t.ConnectionState()
	leaf := cs.PeerCertificates[0] // the sidecar has demanded one, with one URI
	return Hello{Caller: leaf.URIs[0].String(), Leaf: leaf.SerialNumber.Text(16), Resumed: cs.DidResume}
}

// serveHello is the application behind Web.
func serveHello(c meshsim.Conn) {
	h := helloTo(c)
	meshsim.HTTP(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(h) // the client may be gone; there is nobody to tell
	}))(c)
}

// greet is the application behind Greeter.
func greet(c meshsim.Conn) {
	if json.NewEncoder(c).Encode(helloTo(c)) == nil {
		_, _ = io.Copy(io.Discard, c)
		_ = c.CloseWrite()
	}
}

// Collection is what the service [Collector] has taken in.
type Collection struct {
	ended  chan meshsim.Received // of connections, oldest first
	closed chan struct{}
	close  sync.Once

	mu    sync.Mutex
	pace  time.Duration
	bytes int64
}

func newCollection() *Collection {
	return &Collection{ended: make(chan meshsim.Received, 16), closed: make(chan struct{})}
}

// SetPace makes the collector pause before every read. A read brings a TLS record, 16 KiB at the most. 0, as at the
// start, is as fast as it can.
func (c *Collection) SetPace(pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pace = pause
}

// Bytes returns how many bytes have come in, over all connections.
func (c *Collection) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Next returns what the next connection to end has brought, or the error of ctx. A connection that brought nothing is
// left out: it was a spare. Sixteen are kept; what ends beyond that waits.
func (c *Collection) Next(ctx context.Context) (meshsim.Received, error) {
	select {
	case r := <-c.ended:
		return r, nil
	case <-ctx.Done():
		return meshsim.Received{}, ctx.Err()
	}
}

// handle is a meshsim.Handler.
func (c *Collection) handle(conn meshsim.Conn) {
	if _, err := io.WriteString(conn, "go on\n"); err != nil || conn.CloseWrite() != nil {
		return
	}
	sum := sha256.New()
	r := meshsim.Received{}
	r.Bytes, r.Err = c.readAll(conn, sum)
	sum.Sum(r.SHA256[:0])
	if r.Bytes == 0 {
		return
	}
	select {
	case c.ended <- r:
	case <-c.closed:
	}
}

func (c *Collection) readAll(conn io.Reader, sum hash.Hash) (total int64, err error) {
	buf := make([]byte, 16<<10)
	for {
		if !c.wait() {
			return total, errors.New("the world is closed")
		}
		n, err := conn.Read(buf)
		sum.Write(buf[:n])
		total += int64(n)
		c.mu.Lock()
		c.bytes += int64(n)
		c.mu.Unlock()
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// wait pauses as the pace says. It returns false if the world is closed.
func (c *Collection) wait() bool {
	c.mu.Lock()
	pause := c.pace
	c.mu.Unlock()
	if pause <= 0 {
		return true
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.closed:
		return false
	}
}

func (c *Collection) stop() { c.close.Do(func() { close(c.closed) }) }
