// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/consul-lambda/consul-lambda/internal/clock"
)

const (
	// deadFor is how long an address that refused or did not answer is tried after the others.
	deadFor = 30 * time.Second

	// nameFor is how long the addresses of a name are used without asking again; older ones are used if asking fails.
	nameFor = 30 * time.Second

	// lookupTimeout bounds a look-up when older addresses are at hand; so does half of the time that the dial has left.
	lookupTimeout = time.Second

	// lookupAgain is how long after a failed look-up older addresses are used without another.
	lookupAgain = 5 * time.Second
)

// Resolver looks up host names; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// shaker turns a raw connection through gateway number g into the connection wanted. It owns the raw one.
type shaker func(ctx context.Context, g int, raw net.Conn) (*Conn, error)

// gateways are the ways into the mesh. Which one is tried first differs from sandbox to sandbox, and then stays with the
// last one that worked.
type gateways struct {
	list   []*gateway
	first  atomic.Int32 // index of the one to try first
	clock  clock.Clock
	cancel context.CancelFunc // ends look-ups
}

// gateway is one entry of the list: a name or an address, and a port.
type gateway struct {
	host     string
	port     uint16
	literal  bool // host is an address
	resolver Resolver
	clock    clock.Clock
	ctx      context.Context // of look-ups, which belong to no dial
	lookups  singleflight.Group

	mu    sync.Mutex
	addrs []netip.Addr // the literal, or those of the last look-up that succeeded; the last good one first
	at    clock.Instant
	err   error         // of the last look-up
	tried clock.Instant // when that failed
	dead  map[netip.Addr]clock.Instant
}

func newGateways(cfg Config) (*gateways, error) {
	if len(cfg.Gateways) == 0 {
		return nil, errors.New("tlsstate: no gateway")
	}
	resolver := cfg.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	g := &gateways{clock: cfg.Clock}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	for _, hostport := range cfg.Gateways {
		host, port, err := net.SplitHostPort(hostport)
		if err != nil {
			return nil, fmt.Errorf("tlsstate: gateway %q: %w", hostport, err)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || host == "" {
			return nil, fmt.Errorf("tlsstate: gateway %q: want host:port", hostport)
		}
		gw := &gateway{host: host, port: uint16(n), resolver: resolver, clock: cfg.Clock, ctx: ctx}
		if literal, err := netip.ParseAddr(host); err == nil {
			gw.literal, gw.addrs = true, []netip.Addr{literal.Unmap()}
		}
		g.list = append(g.list, gw)
	}
	g.first.Store(rand.Int32N(int32(len(g.list))))
	return g, nil
}

// resolve looks the names up ahead of need.
func (gs *gateways) resolve(ctx context.Context) {
	var all sync.WaitGroup
	for _, g := range gs.list {
		if !g.literal {
			all.Go(func() { _ = g.lookup(ctx) })
		}
	}
	all.Wait()
}

// connect makes a connection through one of the gateways. The attempts overlap: the next one starts when the one before
// has failed or has taken longer than stagger. The first to succeed wins, and the others are closed.
//
// open makes a raw connection, and shake makes the connection wanted of it.
func (gs *gateways) connect(ctx context.Context, open opener, shake shaker) (*Conn, error) {
	order := gs.order()
	return race(ctx, len(order), func(ctx context.Context, i int) (*Conn, error) {
		n := order[i]
		conn, err := gs.list[n].connect(ctx, open, func(ctx context.Context, raw net.Conn) (*Conn, error) { return shake(ctx, n, raw) })
		if err == nil {
			gs.first.Store(int32(n))
		}
		return conn, err
	})
}

// order returns the indices of the gateways in the order to try them: the last good one first, those that died within the
// last 30 s last, so that they are passed over while others answer.
func (gs *gateways) order() []int {
	first, now := int(gs.first.Load()), gs.clock.Now()
	var alive, dead []int
	for i := range gs.list {
		n := (first + i) % len(gs.list)
		if gs.list[n].isDead(now) {
			dead = append(dead, n)
		} else {
			alive = append(alive, n)
		}
	}
	return append(alive, dead...)
}

// isDead reports whether all known addresses failed lately.
func (g *gateway) isDead(now clock.Instant) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.addrs) > 0 && len(g.alive(now)) == 0
}

// alive returns the addresses that did not fail within the last 30 s. g.mu is held.
func (g *gateway) alive(now clock.Instant) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(g.addrs), func(a netip.Addr) bool {
		at, ok := g.dead[a]
		return ok && now.Sub(at) < deadFor
	})
}

func (g *gateway) connect(ctx context.Context, open opener, shake func(context.Context, net.Conn) (*Conn, error)) (*Conn, error) {
	addrs, err := g.addresses(ctx)
	if err != nil {
		return nil, err
	}
	return race(ctx, len(addrs), func(ctx context.Context, i int) (*Conn, error) {
		addr := netip.AddrPortFrom(addrs[i], g.port)
		asked := g.clock.Now()
		raw, err := open(ctx, addr)
		if err != nil {
			if ctx.Err() == nil || g.clock.Now().Sub(asked) >= stagger { // not if it was merely called off
				g.died(addrs[i])
			}
			return nil, fmt.Errorf("%w: %s: %w", ErrNoGateway, g.name(addr), err)
		}
		conn, err := shake(ctx, raw)
		if err != nil {
			return nil, fmt.Errorf("through gateway %s: %w", g.name(addr), err)
		}
		g.worked(addrs[i])
		return conn, nil
	})
}

// name tells which gateway an address is, and if it may be an old one.
func (g *gateway) name(addr netip.AddrPort) string {
	if g.literal {
		return addr.String()
	}
	name := fmt.Sprintf("%s (%s)", net.JoinHostPort(g.host, strconv.Itoa(int(g.port))), addr.Addr())
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return fmt.Sprintf("%s, an older address because the look-up failed: %v", name, g.err)
	}
	return name
}

// opener makes a raw connection.
type opener func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

// dialTCP opens a raw connection. Keepalives are off: after a thaw they would end connections that are well, because
// their deadlines passed while nobody could answer (R19).
func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	return d.DialContext(ctx, "tcp", addr.String())
}

// addresses returns the gateway's addresses in the order to try them: the last good one first, those that failed within
// the last 30 s last.
func (g *gateway) addresses(ctx context.Context) ([]netip.Addr, error) {
	g.mu.Lock()
	now := g.clock.Now()
	known := len(g.addrs) > 0
	due := !g.literal && now.Sub(g.at) >= nameFor && (!known || now.Sub(g.tried) >= lookupAgain)
	g.mu.Unlock()
	if due {
		bounded := ctx
		if known {
			limit := lookupTimeout
			if end, ok := ctx.Deadline(); ok {
				limit = min(limit, time.Until(end)/2)
			}
			var cancel context.CancelFunc
			bounded, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		if err := g.lookup(bounded); err != nil && !known {
			return nil, fmt.Errorf("%w: looking up %s: %w", ErrNoGateway, g.host, err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	alive := g.alive(g.clock.Now())
	for _, a := range g.addrs {
		if !slices.Contains(alive, a) {
			alive = append(alive, a)
		}
	}
	return alive, nil
}

// lookup asks for the name's addresses, and waits for the answer until ctx ends. Many dials at once ask once.
func (g *gateway) lookup(ctx context.Context) error {
	answer := g.lookups.DoChan("", func() (any, error) { return nil, g.ask() })
	var err error
	select {
	case r := <-answer:
		err = r.Err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		g.mu.Lock()
		g.err, g.tried = err, g.clock.Now()
		g.mu.Unlock()
	}
	return err
}

// ask is one look-up. It does not panic: that would end the function (R12).
func (g *gateway) ask() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while looking up: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(g.ctx, fetchTimeout)
	defer cancel()
	addrs, err := g.resolver.LookupNetIP(ctx, "ip", g.host)
	if err != nil {
		return err
	}
	if len(addrs) == 0 {
		return errors.New("no address")
	}
	addrs = slices.Clone(addrs) // they may be the resolver's own
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.addrs) > 0 { // keep the last good one first
		if i := slices.Index(addrs, g.addrs[0]); i > 0 {
			addrs[0], addrs[i] = addrs[i], addrs[0]
		}
	}
	maps.DeleteFunc(g.dead, func(a netip.Addr, _ clock.Instant) bool { return !slices.Contains(addrs, a) })
	g.addrs, g.at, g.err = addrs, g.clock.Now(), nil
	return nil
}

func (g *gateway) died(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead == nil {
		g.dead = make(map[netip.Addr]clock.Instant)
	}
	g.dead[a] = g.clock.Now()
}

func (g *gateway) worked(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.dead, a)
	if i := slices.Index(g.addrs, a); i > 0 {
		g.addrs = slices.Clone(g.addrs) // callers may still read the old order
		g.addrs[0], g.addrs[i] = g.addrs[i], g.addrs[0]
	}
}
