// SPDX-License-Identifier: MPL-2.0

package simhttp

import (
	"cmp"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Server listens, and serves once told what. Make one with [Listen]. All its methods may be called at any time from any goroutine,
// but for Serve, which is called once, before Close.
type Server struct {
	listener  net.Listener
	http      *http.Server
	served    chan struct{}  // closed when the accept loop has ended
	done      chan struct{}  // closed by Close
	handlers  sync.WaitGroup // requests being answered
	closeOnce sync.Once

	mu     sync.Mutex
	closed bool
	gate   chan struct{} // closed and replaced by Release
}

// Listen binds an address; "" is 127.0.0.1 and a free port. Connections wait in the kernel until Serve.
func Listen(addr string) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", cmp.Or(addr, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	return &Server{
		listener: l,
		served:   make(chan struct{}),
		done:     make(chan struct{}),
		gate:     make(chan struct{}),
	}, nil
}

// Serve answers with h from now on, until Close. It returns at once.
func (s *Server) Serve(h http.Handler) {
	s.http = &http.Server{
		Handler:           s.counted(h),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go s.serve()
}

func (s *Server) serve() {
	defer close(s.served)
	_ = s.http.Serve(s.listener) // always http.ErrServerClosed, from Close
}

// Addr is the server's host and port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends every connection and waits for the server's goroutines.
func (s *Server) Close() {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		_ = s.http.Close() // first, so that nobody who wakes up can still answer
		close(s.done)
	})
	<-s.served
	s.handlers.Wait()
}

// counted lets Close wait for what h answers.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			panic(http.ErrAbortHandler) // a plain return would be an empty answer
		}
		defer s.handlers.Done()
		h.ServeHTTP(w, r)
	})
}

// enter counts a handler in, unless the server is closing: WaitGroup.Add must not race with Close's Wait.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	return true
}

// Sleep waits for d. It returns false if the client or the server left.
func (s *Server) Sleep(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
	case <-s.done:
	}
	return false
}

// Hang waits until Release. It returns false if the client or the server left instead.
func (s *Server) Hang(r *http.Request) bool {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	select {
	case <-gate:
		return true
	case <-r.Context().Done():
	case <-s.done:
	}
	return false
}

// Release ends every Hang that has begun.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.gate)
	s.gate = make(chan struct{})
}

// Hijack takes the connection over; nil if it has gone. The caller closes it.
func Hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil
	}
	return conn
}

// Reset answers with a TCP reset.
func Reset(w http.ResponseWriter) {
	conn := Hijack(w)
	if conn == nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // unsent and unread data are dropped: RST
	}
	_ = conn.Close()
}
