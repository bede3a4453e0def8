// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	// helloTimeout is how long a connection may take to say where it wants to
	// go; 15 s is Envoy's default for listener filters.
	helloTimeout = 15 * time.Second
	// dialTimeout is the connect_timeout that Consul gives Envoy's clusters.
	dialTimeout = 5 * time.Second
)

// GatewayConfig describes a [Gateway]. Its zero value works.
type GatewayConfig struct {
	Addr   string  // where to listen; "": a free port of 127.0.0.1
	Routes *Routes // nil: an empty table of its own
	Seed   uint64  // of the choice that [Gateway.Kill] makes
	Log    *slog.Logger
}

// Gateway is a mesh gateway: it reads the server name of a ClientHello, looks
// it up in its routes, and relays bytes it does not understand to the address
// there. A connection without a route is closed, as Envoy closes one for which it has no
// filter chain. An end of stream is passed on in either direction; a reset of
// one leg resets the other.
//
// It relays with (*net.TCPConn).ReadFrom, so on Linux the kernel splices and
// the bytes never enter this process, except for the ClientHello and for as long
// as a fault has to count, change or hold bytes. It is safe for concurrent use.
type Gateway struct {
	routes *Routes
	log    *slog.Logger
	addr   string // with the port chosen, for Reopen
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	ln          *net.TCPListener // nil while refusing
	plan        FaultPlan        // of connections to come
	flows       map[*flow]struct{}
	terminators []*Sidecar
	rng         *rand.Rand
	stats       GatewayStats
}

// GatewayStats counts since the gateway was made, but for Open.
type GatewayStats struct {
	Accepted   int64 // connections accepted
	Routed     int64 // connected to a destination
	BadHello   int64 // sent no ClientHello, or not in time
	NoRoute    int64 // asked for a name without a route, or for none
	DialFailed int64 // had a route, but nothing answered there
	Open       int   // accepted and not gone yet
}

// NewGateway listens at cfg.Addr.
func NewGateway(cfg GatewayConfig) (*Gateway, error) {
	if cfg.Routes == nil {
		cfg.Routes = new(Routes)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		routes: cfg.Routes,
		log:    cfg.Log,
		flows:  make(map[*flow]struct{}),
		rng:    rand.New(rand.NewPCG(cfg.Seed, 0)),
	}
	ln, err := listen(cfg.Addr)
	if err != nil {
		return nil, err
	}
	g.addr = ln.Addr().String()
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.mu.Lock()
	defer g.mu.Unlock()
	g.serve(ln)
	return g, nil
}

// Addr returns "host:port". It stays the same through Refuse and Reopen.
func (g *Gateway) Addr() string { return g.addr }

// Route is Set of the gateway's [Routes].
func (g *Gateway) Route(sni, addr string) { g.routes.Set(sni, addr) }

// terminate makes the gateway end TLS itself for connections to sni, as
// Consul's do for http services that are exported to a peer: the client sees
// cfg.ID, which should be [CA.GatewayID], and cfg.Handler gets the plain bytes. The
// returned sidecar is the gateway's TLS end; the gateway closes it.
func (g *Gateway) terminate(sni string, cfg SidecarConfig) (*Sidecar, error) {
	s, err := NewSidecar(cfg)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = s.Close()
		return nil, ErrClosed
	}
	g.terminators = append(g.terminators, s)
	g.routes.Set(sni, s.Addr())
	return s, nil
}

// Stats returns a copy of the counters.
func (g *Gateway) Stats() GatewayStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := g.stats
	st.Open = len(g.flows)
	return st
}

// Close stops listening, resets every connection and waits until all is gone.
func (g *Gateway) Close() error {
	g.mu.Lock()
	g.closed = true
	if g.ln != nil {
		_ = g.ln.Close()
		g.ln = nil
	}
	flows := g.open()
	terminators := g.terminators
	g.mu.Unlock()
	g.cancel()
	for _, f := range flows {
		f.abort()
	}
	g.wg.Wait()
	var errs []error
	for _, s := range terminators {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// open returns the flows of this moment. The caller holds mu.
func (g *Gateway) open() []*flow {
	flows := make([]*flow, 0, len(g.flows))
	for f := range g.flows {
		flows = append(flows, f)
	}
	return flows
}

// serve starts to accept on ln. The caller holds mu.
func (g *Gateway) serve(ln *net.TCPListener) {
	g.ln = ln
	g.wg.Add(1)
	go g.acceptLoop(ln)
}

// acceptLoop accepts until ln is closed. Owner: Close or Refuse.
func (g *Gateway) acceptLoop(ln *net.TCPListener) {
	defer g.wg.Done()
	for {
		c, err := ln.AcceptTCP()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				g.log.Error("gateway stopped accepting", "err", err)
			}
			return
		}
		f, ok := g.track(c)
		if !ok {
			reset(c)
			return
		}
		go g.serveFlow(f)
	}
}

// track makes a flow of a connection, unless the gateway is closed.
func (g *Gateway) track(c *net.TCPConn) (*flow, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, false
	}
	f := newFlow(c, g.plan)
	g.flows[f] = struct{}{}
	g.stats.Accepted++
	g.wg.Add(1)
	return f, true
}

// serveFlow sees one connection from accept to close. Owner: Close.
func (g *Gateway) serveFlow(f *flow) {
	defer g.wg.Done()
	defer func() {
		f.close()
		g.mu.Lock()
		delete(g.flows, f)
		g.mu.Unlock()
	}()
	switch f.plan.Load().Accept {
	case AcceptReset:
		f.abort()
		return
	case AcceptSilent:
		<-f.closed
		return
	}
	hello, addr, err := g.destination(f)
	if err != nil {
		if f.plan.Load().forgotten {
			<-f.closed // not even a FIN may leave
		}
		g.log.Debug("connection not routed", "client", f.client.RemoteAddr().String(), "err", err)
		return
	}
	backend, err := dial(g.ctx, addr, dialTimeout)
	if err != nil {
		g.count(func(st *GatewayStats) { st.DialFailed++ })
		g.log.Debug("destination unreachable", "addr", addr, "err", err)
		return
	}
	g.count(func(st *GatewayStats) { st.Routed++ })
	f.relay(backend, hello)
}

// destination reads the ClientHello of a new connection and returns it, with
// whatever came along, and the address that its server name leads to.
func (g *Gateway) destination(f *flow) (hello []byte, addr string, err error) {
	name, hello, err := readHello(f.client)
	if err != nil {
		g.count(func(st *GatewayStats) { st.BadHello++ })
		return nil, "", err
	}
	addr, ok := g.routes.Lookup(name)
	if !ok {
		g.count(func(st *GatewayStats) { st.NoRoute++ })
		return nil, "", fmt.Errorf("meshsim: no route for %q", name)
	}
	return hello, addr, nil
}

// readHello reads c until its ClientHello is complete.
func readHello(c *net.TCPConn) (name string, read []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return "", nil, err
	}
	buf := make([]byte, 0, maxClientHello)
	for {
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		// need never reaches beyond maxClientHello, so there is always room to read into.
		if name, need, bad := clientHelloServerName(buf); bad != nil || need == 0 {
			return name, buf, bad
		}
		if err != nil {
			return "", nil, fmt.Errorf("meshsim: reading ClientHello: %w", err)
		}
	}
}

func (g *Gateway) count(add func(*GatewayStats)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	add(&g.stats)
}
