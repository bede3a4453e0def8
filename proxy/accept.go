// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Accept fails when descriptors or memory run out. It is tried again after a pause that doubles within these bounds,
	// as net/http does: connections wait in the kernel meanwhile.
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// listener is one bound address and where its connections go.
type listener struct {
	*net.TCPListener
	route *Route
}

// lastCall makes the accept loop end once the connections that wait were accepted: those that the function made before it
// ended may be in the kernel since before a freeze, and hold bytes.
func (l *listener) lastCall() { _ = l.SetDeadline(past) }

// waiting reports whether a connection can be accepted without waiting for it, and makes the next accept possible.
func (l *listener) waiting() bool {
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	_ = l.SetDeadline(time.Now().Add(maxAcceptPause)) // should it have gone meanwhile
	return err == nil && n > 0
}

// accept takes connections in until the listener is closed or its last call has passed.
func (s *Server) accept(l *listener) {
	defer s.accepting.Done()
	defer func() { _ = l.Close() }()
	pause := minAcceptPause
	for {
		down, err := l.AcceptTCP()
		switch {
		case err == nil:
			pause = minAcceptPause
			s.admit(l.route, down)
			if s.isClosing() && !l.waiting() {
				return
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !l.waiting() {
				return
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.report.failure(l.route.Name, causeAccept, err)
			select {
			case <-time.After(pause):
			case <-s.closing:
			}
			pause = min(2*pause, maxAcceptPause)
		}
	}
}

// admit starts a connection's life, or resets it if there are too many.
func (s *Server) admit(route *Route, down *net.TCPConn) {
	s.cfg.Watch.Check() // a freeze is noticed before anything from before it is used
	s.stats.accepted.Add(1)
	c := newConn(s, route, down)
	if !s.add(c) {
		c.giveUp()
		s.stats.ended(CauseLimit)
		s.report.failure(route.Name, CauseLimit, errLimit)
		reset(down)
		return
	}
	go c.open()
}
