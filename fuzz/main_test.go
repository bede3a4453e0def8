// SPDX-License-Identifier: MPL-2.0

package fuzz

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/proxy"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// patience bounds what should take milliseconds; an input that needs it hangs.
const patience = waittest.Patience

// schedule hands out an input's bytes. At its end it gives zeros.
type schedule []byte

func (s *schedule) next() byte {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return b
}

// store is a Source in memory.
type store struct {
	mu    sync.Mutex
	doc   []byte
	reads int
}

var _ tlsstate.Source = (*store)(nil)

func (s *store) Fetch(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.doc == nil {
		return nil, errors.New("parameter not found")
	}
	return bytes.Clone(s.doc), nil
}

func (s *store) put(doc []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doc = doc
}

func (s *store) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// path is the whole way from a function to services, with one listener for each upstream.
type path struct {
	mesh  *meshsim.Mesh
	store *store
	skew  *clocktest.Skew
	state *tlsstate.State
	addrs []string // where the function connects to, by upstream
	close func()
}

// services are the upstreams of a path, in their order: names, handlers, and how many spare connections each has.
type services []struct {
	name    string
	handler meshsim.Handler
	spares  int
}

// newPath makes a path whose store holds a document of the function "fn". The caller closes it.
func newPath(t testing.TB, ca meshsim.CAConfig, list services) *path {
	t.Helper()
	m, err := meshsim.New(meshsim.Config{CA: ca})
	ok(t, err)
	p := &path{mesh: m, store: new(store), skew: new(clocktest.Skew)}
	cfg := tlsstate.Config{Gateways: []string{m.Gateway.Addr()}, Source: p.store, Clock: p.skew.Now, SpareMaxIdle: time.Hour}
	for _, s := range list {
		_, err := m.AddService(s.name, s.handler)
		ok(t, err)
		u, err := mesh.ParseUpstream(s.name + ":1")
		ok(t, err)
		cfg.Upstreams = append(cfg.Upstreams, u)
		cfg.Spares = append(cfg.Spares, s.spares)
	}
	doc, err := m.Document("fn")
	ok(t, err)
	p.store.put(encode(t, doc))
	p.state, err = tlsstate.New(cfg)
	ok(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	srv := proxy.New(proxy.Config{DialTimeout: patience})
	for i, s := range list {
		addr, err := srv.Listen(ctx, "127.0.0.1:0", proxy.Route{Name: s.name, Dial: func(ctx context.Context) (net.Conn, error) {
			c, err := p.state.Dial(ctx, i)
			if err != nil {
				return nil, err
			}
			return c, nil
		}})
		ok(t, err)
		p.addrs = append(p.addrs, addr.String())
	}
	var running sync.WaitGroup
	running.Go(func() { p.state.Run(ctx) })
	running.Go(func() { _ = srv.Serve(ctx) })
	p.close = func() {
		cancel()
		running.Wait()
		p.state.Close()
		_ = m.Close()
	}
	ready, done := context.WithTimeout(ctx, patience)
	defer done()
	_, err = p.state.Ready(ready)
	ok(t, err)
	return p
}

// readAgain has the document read once more, and returns when that has had its effect.
func (p *path) readAgain(t testing.TB) {
	t.Helper()
	// The second read begins when the first has been dealt with.
	for range 2 {
		before := p.store.count()
		for deadline := time.Now().Add(patience); p.store.count() == before; time.Sleep(50 * time.Microsecond) { // a tick of a millisecond would be most of an input
			p.skew.JumpMono(time.Hour)
			p.state.Thawed(time.Hour)
			if time.Now().After(deadline) {
				t.Fatal("the document is not read again")
			}
		}
	}
}

func encode(t testing.TB, doc mesh.Document) []byte {
	t.Helper()
	raw, err := doc.Encode()
	ok(t, err)
	return raw
}

// pattern returns n bytes that do not repeat, others for each seed.
func pattern(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
