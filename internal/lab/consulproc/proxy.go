// SPDX-License-Identifier: MPL-2.0

package consulproc

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// ProxyConfig says what a built-in proxy stands in front of. The zero value lacks Service and LocalAddr.
type ProxyConfig struct {
	// Service is whose certificate it shows and whose intentions it asks about. Required.
	Service string
	// LocalAddr is where it carries the bytes of a permitted connection to, host:port, without TLS. Required.
	LocalAddr string
	// Token needs service:write on Service. Empty is the server's management token.
	Token string
	// Register makes the proxy register itself with the server's agent as an instance "SERVICE-proxy" that stands for
	// Service, while it runs.
	Register bool
}

// Proxy is a running `consul connect proxy`: TLS from the mesh in, plain TCP out. It asks the server about every
// connection, and outlives the server's restarts.
type Proxy struct {
	server  *Server
	addr    string
	process *process
}

// ConnectProxy runs Consul's built-in proxy and returns when it listens, which it does once it has its certificate. ctx
// bounds that (a minute at most), not the proxy's life. Close the proxy, or the server, which does it too.
func (s *Server) ConnectProxy(ctx context.Context, config ProxyConfig) (*Proxy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.connectProxy(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("consulproc: starting the proxy of %q: %w", config.Service, err)
	}
	s.proxies[p] = struct{}{}
	return p, nil
}

func (s *Server) connectProxy(ctx context.Context, config ProxyConfig) (*Proxy, error) {
	if s.closed {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for attempt := 1; ; attempt++ {
		p, err := s.launchProxy(ctx, config)
		if err == nil || !errors.Is(err, errPortTaken) || attempt == startAttempts {
			return p, err
		}
	}
}

func (s *Server) launchProxy(ctx context.Context, config ProxyConfig) (*Proxy, error) {
	free, err := freePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	addr := address(free[0])
	token := config.Token
	if token == "" {
		token = s.token
	}
	args := []string{"connect", "proxy", "-service=" + config.Service, "-service-addr=" + config.LocalAddr, "-listen=" + addr}
	if config.Register {
		args = append(args, "-register")
	}
	process, err := command{
		path: s.config.Binary, args: args, dir: s.dir,
		// In the environment, because everybody on the machine can read arguments.
		env: []string{"CONSUL_HTTP_ADDR=http://" + s.Addr(), "CONSUL_HTTP_TOKEN=" + token},
		log: s.config.Log.With("program", "proxy", "service", config.Service),
	}.start()
	if err != nil {
		return nil, err
	}
	listens := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp4", addr)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := process.await(ctx, listens); err != nil {
		return nil, errors.Join(err, process.kill())
	}
	return &Proxy{server: s, addr: addr, process: process}, nil
}

// Addr returns where the proxy accepts connections of the mesh, host:port.
func (p *Proxy) Addr() string { return p.addr }

// Close ends the proxy in good order, which takes its registration back, and at most ten seconds. Calling it again, or
// after the server's Close, does nothing.
func (p *Proxy) Close() error {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	if _, open := p.server.proxies[p]; !open || p.server.closed {
		return nil
	}
	delete(p.server.proxies, p)
	if err := p.process.stop(); err != nil {
		return fmt.Errorf("consulproc: ending a proxy: %w", err)
	}
	return nil
}
