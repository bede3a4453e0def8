// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/extensionenv"
	"github.com/consul-lambda/consul-lambda/internal/paramstore"
	"github.com/consul-lambda/consul-lambda/proxy"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

const (
	// credentialsBy is how long after the start Next is called at the latest, with or without credentials: Init is billed
	// (R13). In strict mode the function shall not start without them, and Lambda gives Init 10 s.
	credentialsBy       = 2 * time.Second
	strictCredentialsBy = 8 * time.Second

	// sparesFor is how long Next waits for spare connections at the most, within the time above (R10).
	sparesFor = time.Second
)

// extension is the wiring: configuration to listeners, credentials and the relay between them.
type extension struct {
	cfg     *extensionenv.Config
	log     *slog.Logger
	timings timings
	metrics *metrics // nil: none are wanted

	bound []binding // what listen reached
	watch clock.Watch
	bufs  *bufpool.Pool // of all connections together
	proxy *proxy.Server
	state *tlsstate.State // nil without upstreams, and before serve

	stop   context.CancelFunc // ends what serve started
	served chan struct{}      // closed when all of it has ended
}

// binding is what one upstream is reached at: host:port, or several with commas between them.
type binding struct{ upstream, addresses string }

// The proxy asks of a leg, at run time, what it can do: this holds the two packages to each other, which never meet but here. With
// one of these gone a half-close would be an end, a cut a clean end, and an idle connection would hold a buffer.
var (
	_ proxy.CloseWriter = (*tlsstate.Conn)(nil)
	_ proxy.Resetter    = (*tlsstate.Conn)(nil)
	_ proxy.Waiter      = (*tlsstate.Conn)(nil)
)

// listen binds all ports. Their connections wait in the kernel until serve.
func (e *extension) listen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.ProxyTimeout)
	defer cancel()
	e.bufs = bufferPool(e.cfg.MemoryMB)
	e.proxy = proxy.New(proxy.Config{
		DialTimeout:    e.cfg.DialTimeout,
		MaxConnections: e.cfg.MaxConnections,
		IdleTimeout:    e.cfg.IdleTimeout,
		MaxAge:         e.cfg.MaxAge,
		Watch:          &e.watch,
		Buffers:        e.bufs,
		Logger:         e.log,
	})
	var errs []error
	for i, u := range e.cfg.Upstreams {
		var bound []string
		for _, addr := range e.cfg.BindAddrs {
			address := net.JoinHostPort(addr.String(), strconv.Itoa(u.Port()))
			_, err := e.proxy.Listen(ctx, address, proxy.Route{Name: u.String(), Dial: e.dialer(i)})
			switch {
			case err == nil:
				bound = append(bound, address)
			case e.mayBeMissing(addr, err):
				e.log.Debug("no such loopback address in this sandbox", "address", addr.String())
			default:
				errs = append(errs, fmt.Errorf("CONSUL_SERVICE_UPSTREAMS: %q: %w; each port must be free in the sandbox", u, err))
			}
		}
		if bound != nil {
			e.bound = append(e.bound, binding{u.String(), strings.Join(bound, ",")})
		}
	}
	return errors.Join(errs...)
}

// announce logs what was done before register, where each line would have delayed the runtime's start.
func (e *extension) announce() {
	for _, w := range e.cfg.Warnings {
		e.log.Warn("configuration", "warning", w)
	}
	for _, b := range e.bound {
		e.log.Info("listening", "upstream", b.upstream, "address", b.addresses)
	}
}

// mayBeMissing reports whether a bind failed because the sandbox has no ::1, which nobody asked for by name.
func (e *extension) mayBeMissing(addr netip.Addr, err error) bool {
	return e.cfg.BindDefault && addr.Is6() && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT))
}

// dialer returns the dial of upstream i. It is called only after serve has set the state.
func (e *extension) dialer(i int) func(context.Context) (net.Conn, error) {
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := e.state.Dial(ctx, i)
		if err != nil {
			return nil, err // not a nil *tlsstate.Conn in an interface
		}
		return conn, nil
	}
	if e.metrics == nil {
		return dial
	}
	return e.metrics.timed(dial)
}

// serve starts everything that goes on beside the function. Without upstreams there is nothing to start.
func (e *extension) serve(environ []string) error {
	ctx, stop := context.WithCancel(context.Background())
	e.stop, e.served = stop, make(chan struct{})
	if len(e.cfg.Upstreams) == 0 {
		close(e.served)
		e.log.Info("CONSUL_SERVICE_UPSTREAMS is empty: nothing to do")
		return nil
	}
	store, err := paramstore.New(paramstore.Config{Getenv: lookup(environ)})
	if err != nil {
		close(e.served)
		return err
	}
	cfg := tlsstate.Config{
		Upstreams:    e.cfg.Upstreams,
		Gateways:     e.cfg.Gateways,
		Source:       store.Reader(e.cfg.ParameterPath),
		Refresh:      e.cfg.Refresh,
		Spares:       e.spares(),
		SpareMaxIdle: e.cfg.WarmMaxIdle,
		NoResumption: !e.cfg.Resumption,
		Buffers:      e.bufs,
		Logger:       e.log,
	}
	if e.metrics != nil {
		cfg.OnHandshake = e.metrics.handshakes.Observe
	}
	if e.state, err = tlsstate.New(cfg); err != nil {
		close(e.served)
		return err
	}
	e.watch.OnThaw(e.state.Thawed)
	if e.metrics != nil {
		e.metrics.proxy, e.metrics.state = e.proxy, e.state
		e.watch.Tick = e.metrics.tick
	}
	go e.run(ctx)
	return nil
}

// run goes on until ctx ends.
func (e *extension) run(ctx context.Context) {
	defer close(e.served)
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { e.state.Run(ctx) })
	beside.Go(func() { e.watch.Run(ctx) })
	e.relay(ctx)
}

// relay runs the proxy until it is shut down, or ctx ends.
func (e *extension) relay(ctx context.Context) {
	if err := e.proxy.Serve(ctx); !errors.Is(err, proxy.ErrServerClosed) && !errors.Is(err, context.Canceled) {
		e.log.Error("the proxy stopped", "error", err)
	}
}

// warmUp waits for credentials, for as long as Init may take. Only strict mode calls it an error if there are none.
func (e *extension) warmUp(ctx context.Context) error {
	if e.state == nil {
		return nil
	}
	limit := credentialsBy
	if e.cfg.Strict {
		limit = strictCredentialsBy
	}
	ctx, cancel := context.WithDeadline(ctx, e.timings.started.Add(limit))
	defer cancel()
	if _, err := e.state.Ready(ctx); err != nil {
		if e.cfg.Strict && !errors.Is(context.Cause(ctx), context.Canceled) {
			return fmt.Errorf("CONSUL_EXTENSION_STRICT is true: %w", err)
		}
		e.log.Warn("the function starts before there are credentials", "error", err)
		return nil
	}
	e.timings.note("credentials")
	spares, cancel := context.WithTimeout(ctx, sparesFor)
	defer cancel()
	e.state.WarmUp(spares)
	e.timings.note("spares")
	return nil
}

// spares returns how many spare connections each upstream has.
func (e *extension) spares() []int {
	n := make([]int, len(e.cfg.Upstreams))
	for i, u := range e.cfg.Upstreams {
		n[i] = e.cfg.Spares(u)
	}
	return n
}

// lookup is os.Getenv for an environment that was passed in.
func lookup(environ []string) func(string) string {
	return func(name string) string {
		for _, entry := range environ {
			if k, v, ok := strings.Cut(entry, "="); ok && k == name {
				return v
			}
		}
		return ""
	}
}
