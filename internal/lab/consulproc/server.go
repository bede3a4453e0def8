// SPDX-License-Identifier: MPL-2.0

package consulproc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// Server is a Consul server of its own datacenter. Its methods may be called from several goroutines; those that start
// and end programs wait for each other.
type Server struct {
	config Config
	token  string
	dir    string
	ports  ports
	args   []string
	client *http.Client

	mu      sync.Mutex
	process *process // nil when it does not run
	proxies map[*Proxy]struct{}
	closed  bool
}

// Start runs a server and returns when it leads its datacenter, signs certificates and accepts its token. ctx bounds the
// start only (a minute at most), not the server's life. An error wraps [ErrNotReady] if the program ran; nothing is left
// of it then.
func Start(ctx context.Context, config Config) (*Server, error) {
	s, err := start(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("consulproc: starting a server: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, config Config) (*Server, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(config.Dir, "consul-")
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: config, token: config.Token, dir: dir, proxies: map[*Proxy]struct{}{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}},
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for attempt := 1; ; attempt++ {
		if err = s.launchAnew(ctx); err == nil {
			return s, nil
		}
		if !errors.Is(err, errPortTaken) || attempt == startAttempts {
			return nil, errors.Join(err, s.Close())
		}
	}
}

// launchAnew runs the server on ports that are free now.
func (s *Server) launchAnew(ctx context.Context) (err error) {
	if s.ports, err = reserveServerPorts(ctx); err != nil {
		return err
	}
	if s.args, err = s.config.write(s.dir, s.ports); err != nil {
		return err
	}
	return s.launch(ctx)
}

// launch runs the server as it is configured. On failure it does not run.
func (s *Server) launch(ctx context.Context) error {
	p, err := command{path: s.config.Binary, args: s.args, dir: s.dir, log: s.config.Log.With("program", "server")}.start()
	if err != nil {
		return err
	}
	if err := p.await(ctx, s.ready); err != nil {
		return errors.Join(err, p.kill())
	}
	s.process = p
	return nil
}

// Addr returns the address of the HTTP API, host:port. Like the others it stays the same for the life of the Server.
func (s *Server) Addr() string { return address(s.ports.http) }

// GRPCAddr returns the address of the gRPC API (xDS), host:port, in plain text.
func (s *Server) GRPCAddr() string { return address(s.ports.grpc) }

// WANAddr returns the address at which servers of other datacenters join this one, host:port.
func (s *Server) WANAddr() string { return address(s.ports.serfWAN) }

// Datacenter returns the server's datacenter.
func (s *Server) Datacenter() string { return s.config.Datacenter }

// Token returns the management token; empty without ACL.
func (s *Server) Token() string { return s.token }

// HTTPClient returns a client that [Server.Close] relieves of its idle connections. It has no timeout, because blocking
// queries wait for minutes: bound each request by its context.
func (s *Server) HTTPClient() *http.Client { return s.client }

// PID returns the server's process id, 0 when it does not run. It is that of a program of ours until Stop, Kill, Restart
// or Close: it may be sent signals, say to freeze it.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// Stop ends the server in good order: it does not leave the cluster, and closes its database. A stopped one stays so.
// It takes ten seconds at most, then the server is killed.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end((*process).stop)
}

// Kill ends the server as a crash does. A stopped one stays so.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end((*process).kill)
}

// end forgets the process: it has been reaped when how returns nil.
func (s *Server) end(how func(*process) error) error {
	if s.process == nil {
		return nil
	}
	if err := how(s.process); err != nil {
		return fmt.Errorf("consulproc: ending the server: %w", err)
	}
	s.process = nil
	s.client.CloseIdleConnections()
	return nil
}

// Restart stops the server if it runs and runs it again with the same data, addresses and token. It returns when the
// server is ready as after [Start], and is bounded likewise. If it fails, the server does not run.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("consulproc: restarting the server: %w", ErrClosed)
	}
	if err := s.end((*process).stop); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := s.launch(ctx)
		if err == nil {
			return nil
		}
		// The addresses are a promise, so only patience helps: who took one was most likely an outgoing connection.
		if !errors.Is(err, errPortTaken) || ctx.Err() != nil {
			return fmt.Errorf("consulproc: restarting the server: %w", err)
		}
	}
}

// Close ends the proxies and the server, and removes the server's folder. Calling it again does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for p := range s.proxies {
		errs = append(errs, p.process.kill())
	}
	errs = append(errs, s.end((*process).kill), os.RemoveAll(s.dir))
	s.client.CloseIdleConnections()
	return errors.Join(errs...)
}

// newToken returns a random UUID, which is what Consul takes for a token.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
