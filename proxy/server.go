// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/clock"
)

// Config bounds a Server. The zero value is ready to use: each field says what zero means. Of a duration, less than zero is zero.
type Config struct {
	// DialTimeout bounds a Route's Dial, from the moment that the function was accepted; after a freeze anew. Default 2 s: below
	// Lambda's default function timeout of 3 s, so that the function sees a reset and not its own end.
	DialTimeout time.Duration

	// MaxConnections is how many connections may be open at once, over all listeners; the next one is reset. Default 400:
	// each takes two of the 1,024 descriptors that Lambda gives. Negative means no limit.
	MaxConnections int

	// IdleTimeout ends a connection on which nothing moved for so long. Zero or less means never.
	IdleTimeout time.Duration

	// MaxAge ends a connection that has been open for so long. Zero or less means never.
	MaxAge time.Duration

	// Watch tells of freezes. Whoever made it calls its Run; the server checks it wherever it uses something that may have been
	// frozen. Default: one of the server's own, which is checked as often.
	Watch *clock.Watch

	// Buffers lends the relay buffers. Default: a pool without a budget.
	Buffers *bufpool.Pool

	// Clock is read for every decision on time. Default: the system's.
	Clock clock.Clock

	// Logger gets failures, at most one line per upstream and cause in ten seconds. Default: none.
	Logger *slog.Logger
}

// Route is where a listener's connections go.
type Route struct {
	// Name is what the log calls the upstream. Failures are counted by it, to log one of many.
	Name string

	// Dial opens a connection to the upstream. It is called on a goroutine of its own for each connection; the server owns
	// what it returns. It must return when ctx ends.
	Dial func(ctx context.Context) (net.Conn, error)
}

// Server listens for a function and relays to its upstreams. Make one with [New].
type Server struct {
	cfg    Config
	report reporter
	stats  counters

	ackTimeout time.Duration // see the constant

	closing  chan struct{} // closed when Shutdown begins
	serving  context.Context
	stopDial context.CancelFunc // ends serving

	wake chan struct{} // capacity 1: tells the sweeper that there is a first connection

	accepting sync.WaitGroup // accept loops
	relaying  sync.WaitGroup // goroutines of connections

	mu        sync.Mutex // guards what follows
	listeners []*listener
	conns     map[*conn]struct{}
	served    bool
	closed    bool

	sweepMu   sync.Mutex // held by a sweep; guards what a conn says belongs to the sweep
	lastSweep clock.Instant
	still     int // looks in a row that saw nothing move

	trimmed int64 // connections accepted when memory was last given back; the sweeping goroutine's
}

// New returns a server that listens to nothing yet. Whoever made it calls Shutdown, whether it serves or not.
func New(cfg Config) *Server {
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = 2 * time.Second
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 400
	}
	if cfg.Watch == nil {
		cfg.Watch = &clock.Watch{Clock: cfg.Clock}
	}
	if cfg.Buffers == nil {
		cfg.Buffers = new(bufpool.Pool)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg:        cfg,
		report:     reporter{log: cfg.Logger, clock: cfg.Clock},
		ackTimeout: ackTimeout,
		closing:    make(chan struct{}),
		wake:       make(chan struct{}, 1),
		conns:      make(map[*conn]struct{}),
	}
	s.serving, s.stopDial = context.WithCancel(context.Background())
	cfg.Watch.OnThaw(s.thawed)
	return s
}

// Listen binds address, host:port, for a route, and returns what was bound: port 0 is any. Connections are queued by the kernel
// from now on, and accepted once Serve runs. The server owns the listener. The error is that of the bind, or ErrServerClosed.
func (s *Server) Listen(ctx context.Context, address string, route Route) (net.Addr, error) {
	// Keepalive probes on loopback would tell nothing, and cost system calls on each accept. Multipath TCP, which Go listens
	// with by default, would put a second protocol between every byte and the function, for paths that loopback has not.
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("proxy: listening for %s: %w", route.Name, err)
	}
	l := &listener{TCPListener: ln.(*net.TCPListener), route: &route}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = ln.Close()
		return nil, ErrServerClosed
	}
	s.listeners = append(s.listeners, l)
	if s.served {
		s.accepting.Add(1)
		go s.accept(l)
	}
	return ln.Addr(), nil
}

// Serve accepts and relays until Shutdown, and returns ErrServerClosed then; or until ctx ends, which resets every
// connection, and returns its error. It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrServerClosed
	}
	if s.served {
		s.mu.Unlock()
		return errors.New("proxy: Serve was called before")
	}
	s.served = true
	for _, l := range s.listeners {
		s.accepting.Add(1)
		go s.accept(l)
	}
	s.mu.Unlock()

	swept := make(chan struct{})
	sweeping, stop := context.WithCancel(context.Background())
	go s.sweeps(sweeping, swept)
	defer func() {
		stop()
		<-swept
	}()

	select {
	case <-s.closing:
		s.accepting.Wait()
		s.relaying.Wait()
		return ErrServerClosed
	case <-ctx.Done():
		expired, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(expired)
		return ctx.Err()
	}
}

// Shutdown stops accepting and drains (rule R16): what the function has sent is passed on, a connection that is silent is
// closed, one on which bytes move may go on until ctx ends. It returns when all connections are closed; the error is that
// of ctx if some had to be reset.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	served := s.served
	listeners := s.listeners
	s.mu.Unlock()
	if first {
		close(s.closing)
		for _, l := range listeners {
			if served {
				l.lastCall() // its accept loop closes it
			} else {
				_ = l.Close()
			}
		}
	}
	s.accepting.Wait()
	defer s.stopDial()
	return s.drain(ctx)
}

// add takes a connection in, unless there are too many.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.cfg.MaxConnections; n > 0 && len(s.conns) >= n {
		return false
	}
	s.conns[c] = struct{}{}
	if len(s.conns) == 1 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.relaying.Add(1)
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.relaying.Done()
}

// connections returns those that are open at this moment.
func (s *Server) connections() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// isClosing reports whether Shutdown has begun.
func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}
