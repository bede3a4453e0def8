// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
)

// Servers behind one address each keep their own leaf of a service, and hand out whichever is asked for. A run asks for what is needed,
// not for what differs (G8): through either server, and through both in turn, it writes nothing while nothing is needed.
func TestServersWithDifferentLeavesCauseNoWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t, consulproc.Config{})
	first := w.consul
	second := startConsul(t, consulproc.Config{ACL: true, Token: first.Token(), Extra: `
		node_name = "server-2"
		bootstrap_expect = 0
		retry_join = ["` + w.lanAddr(t) + `"]
		retry_interval = "1s"`})
	balanced := roundRobin(t, first.Addr(), second.Addr())
	const functions = 10
	for i := range functions {
		w.aws.AddFunction(fmt.Sprintf("fn-%d", i), enabled())
	}
	address := env{"CONSUL_HTTP_ADDR": "http://" + balanced.addr}
	if r := w.registrator(t, address).run(t); r.Created != functions {
		t.Fatalf("the first run did %+v", r)
	}
	for _, name := range []string{"fn-0", "fn-9"} {
		a, b := leaf(t, client(t, first), name), leaf(t, client(t, second), name)
		if a.Leaf.SerialNumber.Cmp(b.Leaf.SerialNumber) == 0 {
			t.Errorf("both servers have the leaf %v of %s: this proves nothing", a.Leaf.SerialNumber, name)
		}
	}
	w.store.ResetCalls()
	for range 5 {
		// A new sandbox remembers nothing, and has connections of its own.
		if r := w.registrator(t, address).run(t); changes(r) != 0 {
			t.Errorf("a run without need did %+v", r)
		}
	}
	if n := w.store.Count("PutParameter"); n != 0 {
		t.Errorf("%d documents were written without need", n)
	}
	// A server that forgot its leaves gives new ones: still nothing is needed.
	ok(t, second.Restart(t.Context()))
	if r := w.registrator(t, env{"CONSUL_HTTP_ADDR": "http://" + second.Addr()}).run(t); changes(r) != 0 {
		t.Errorf("after a restart a run did %+v", r)
	}
	for i, n := range balanced.counts() {
		if n == 0 {
			t.Errorf("server %d was never asked", i+1)
		}
	}
}

// lanAddr is where other servers of the datacenter join.
func (w *world) lanAddr(t testing.TB) string {
	t.Helper()
	self, err := w.admin.Agent().Self()
	ok(t, err)
	return fmt.Sprintf("127.0.0.1:%.0f", self["Member"]["Port"])
}

// forwarder carries connections to its backends in turn.
type forwarder struct {
	addr     string
	backends []string

	mu   sync.Mutex
	next int
	open map[net.Conn]bool
	work sync.WaitGroup
}

func roundRobin(t testing.TB, backends ...string) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	ok(t, err)
	f := &forwarder{addr: l.Addr().String(), backends: backends, open: make(map[net.Conn]bool)}
	f.work.Go(func() { f.accept(l) })
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for c := range f.open {
			c.Close()
		}
		f.mu.Unlock()
		f.work.Wait()
	})
	return f
}

func (f *forwarder) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		backend := f.backends[f.next%len(f.backends)]
		f.next++
		f.open[c] = true
		f.mu.Unlock()
		f.work.Go(func() { f.carry(c, backend) })
	}
}

// carry ends when either side does.
func (f *forwarder) carry(c net.Conn, backend string) {
	defer func() {
		c.Close()
		f.mu.Lock()
		delete(f.open, c)
		f.mu.Unlock()
	}()
	var d net.Dialer
	b, err := d.DialContext(context.Background(), "tcp4", backend)
	if err != nil {
		return
	}
	defer b.Close()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(b, c)
		b.Close()
	})
	_, _ = io.Copy(c, b)
	c.Close()
	up.Wait()
}

// counts are the connections that each backend got.
func (f *forwarder) counts() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := make([]int, len(f.backends))
	for i := range f.next {
		n[i%len(n)]++
	}
	return n
}
