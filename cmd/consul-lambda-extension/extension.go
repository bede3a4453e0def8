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
	"github.com/consul-lambda/consul-lambda/lambdaext"
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

	// shutdownMargin is what is left of Lambda's deadline when the drain ends: to exit in, on a busy small function (R16).
	shutdownMargin = 200 * time.Millisecond

	// shutdownLimit is what Lambda gives external extensions. It is assumed on SIGTERM, and if an event names no deadline.
	shutdownLimit = 2 * time.Second

	// nextPause is how long it takes until Next is called again when it failed, doubled up to the maximum. Lambda's API is
	// local: it does not fail for long unless the sandbox ends.
	nextPause    = 50 * time.Millisecond
	maxNextPause = 5 * time.Second
)

// extension is the wiring: configuration to listeners, credentials and the relay between them.
type extension struct {
	cfg     *extensionenv.Config
	log     *slog.Logger
	timings timings
	metrics *metrics // nil: none are wanted

	bound [][2]string // upstreams, and the addresses that listen reached for them
	watch clock.Watch
	bufs  *bufpool.Pool // of all connections together
	proxy *proxy.Server
	state *tlsstate.State // nil without upstreams, and before serve

	stop   context.CancelFunc // ends what serve started
	served chan struct{}      // closed when all of it has ended
}

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
			e.bound = append(e.bound, [2]string{u.String(), strings.Join(bound, ",")})
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
		e.log.Info("listening", "upstream", b[0], "address", b[1])
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

// untilShutdown waits for SHUTDOWN, or for ctx to end, and returns when the process must have exited.
func (e *extension) untilShutdown(ctx context.Context, api *lambdaext.Client) time.Time {
	pause := nextPause
	for {
		event, err := api.Next(ctx)
		switch {
		case ctx.Err() != nil:
			e.log.Info("shutting down", "reason", "signal")
			return time.Now().Add(shutdownLimit)
		case errors.Is(err, lambdaext.ErrContainer):
			e.log.Error("the sandbox is broken, Lambda says", "error", err)
			return time.Now().Add(shutdownLimit)
		case err != nil:
			e.log.Warn("waiting for the next event failed, trying again", "error", err)
			sleep(ctx, pause)
			pause = min(2*pause, maxNextPause)
		case event.Type == lambdaext.Shutdown:
			e.log.Info("shutting down", "reason", string(event.ShutdownReason), "deadline", event.Deadline)
			return shutdownBy(time.Now(), event.Deadline)
		default:
			e.log.Debug("an event that nobody asked for", "type", string(event.Type))
			sleep(ctx, nextPause)
		}
	}
}

// shutdownBy is a deadline that can be relied on: what the event says, if it says something that can be.
func shutdownBy(now, deadline time.Time) time.Time {
	if limit := now.Add(shutdownLimit); deadline.Before(now) || deadline.After(limit) {
		return limit // none, or the clock was set meanwhile
	}
	return deadline
}

// drain ends everything in order.
func (e *extension) drain(deadline time.Time) {
	began := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), deadline.Add(-shutdownMargin))
	defer cancel()
	err := e.proxy.Shutdown(ctx)
	e.close(ctx)
	if e.metrics != nil && e.state != nil {
		e.metrics.write(clock.Clock(nil).Now())
	}
	st := e.proxy.Stats()
	args := []any{"took", time.Since(began).String(), "connections", st.Accepted, "sent", st.Sent, "received", st.Received}
	if len(st.Ended) > 0 {
		args = append(args, "ended", st.Ended)
	}
	if e.state != nil {
		tls := e.state.Stats()
		args = append(args, "handshakes", tls.Handshakes, "resumed", tls.Resumed, "spares_used", tls.Spares)
	}
	if err != nil {
		e.log.Warn("stopped, with connections that were still busy", args...)
		return
	}
	e.log.Info("stopped", args...)
}

// close ends what listen and serve started, and waits for it, but no longer than ctx: what hangs then ends with the process. It may
// be called more than once.
func (e *extension) close(ctx context.Context) {
	if e.proxy != nil {
		expired, cancel := context.WithCancel(context.Background())
		cancel()
		_ = e.proxy.Shutdown(expired)
	}
	if e.stop != nil {
		e.stop()
		select {
		case <-e.served:
		case <-ctx.Done():
		}
	}
	if e.state != nil {
		e.state.Close()
	}
}

// fail reports to Lambda why the extension cannot work, which ends Init, and returns the exit code.
func (e *extension) fail(ctx context.Context, api *lambdaext.Client, kind string, err error) int {
	e.log.Error("cannot start", "error_type", kind, "error", err)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := api.InitError(ctx, kind, err); err != nil {
		e.log.Error("cannot tell Lambda either", "error", err)
	}
	e.close(ctx)
	return 1
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

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
