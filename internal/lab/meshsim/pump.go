// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// pump carries one direction of a flow.
type pump struct {
	flow     *flow
	src, dst *net.TCPConn
	fault    func(*flowPlan) ByteFault
	back     *pump       // the other direction
	ended    atomic.Bool // its end of stream was passed on

	plan *flowPlan
	head []byte     // read from src, not passed on yet
	sent int64      // bytes passed on under plan
	line *delayLine // nil until a plan delays
}

// runThen is run in a goroutine of its own. Owner: flow.relay.
func (p *pump) runThen(done func()) {
	defer done()
	p.run()
}

// errReplanned makes a pump look at the plan again.
var errReplanned = errors.New("meshsim: plan changed")

// run pumps until the end of the stream, and passes that on; a failure of
// either leg resets both.
func (p *pump) run() {
	defer func() {
		if p.line != nil {
			p.line.close()
		}
	}()
	for {
		if err := p.src.SetReadDeadline(time.Time{}); err != nil {
			return // the flow was closed
		}
		if now := p.flow.plan.Load(); now != p.plan {
			p.plan, p.sent = now, 0
		}
		err := p.step()
		switch {
		case p.plan.cut:
			return // both legs have their FIN, and what is on its way to them must arrive
		case err == nil && !p.back.ended.Load() && isClosed(p.src):
			// The kernel tells a reset once, and told it to a write of the other direction: what looks like an end is none.
			p.flow.abort()
			return
		case err == nil:
			p.ended.Store(true)
			_ = p.dst.CloseWrite() // fails if dst has gone, which ends this direction too
			return
		case p.flow.plan.Load().cut, errors.Is(err, errReplanned), errors.Is(err, os.ErrDeadlineExceeded):
			// Go round. A write that failed because the flow was cut under it is no failure.
		default:
			p.flow.abort()
			return
		}
	}
}

// step pumps under one plan. It returns nil at the end of the stream.
func (p *pump) step() error {
	switch {
	case p.plan.cut:
		_ = p.src.SetReadDeadline(time.Now().Add(lingerTime))
		_, err := io.Copy(io.Discard, p.src)
		return err
	case p.plan.byteLevel():
		return p.copyFaulty()
	}
	if err := p.flush(0); err != nil {
		return err
	}
	if len(p.head) > 0 {
		if _, err := p.dst.Write(p.head); err != nil {
			return err
		}
		p.head = nil
	}
	_, err := p.dst.ReadFrom(p.src)
	return err
}

// copyFaulty pumps through user space.
func (p *pump) copyFaulty() error {
	fault := p.fault(p.plan)
	buf := make([]byte, chunkSize)
	for {
		if fault.Kind != PassBytes && p.sent >= fault.After {
			if err := p.strike(fault.Kind); err != nil {
				return err
			}
		}
		if len(p.head) == 0 {
			n, err := p.read(buf)
			p.head = buf[:n]
			if n == 0 && errors.Is(err, io.EOF) {
				return p.flush(p.plan.Delay) // the FIN takes as long as a byte
			}
			if n == 0 && err != nil {
				p.head = nil
				return err
			}
		}
		b := p.head
		switch left := fault.After - p.sent; {
		case fault.Kind == PassBytes:
		case left <= 0:
			b = inverse(b) // no other fault gets here
		case int64(len(b)) > left:
			b = b[:left]
		}
		if err := p.pass(b); err != nil {
			return err
		}
		p.head = p.head[len(b):]
		p.sent += int64(len(b))
		if p.flow.plan.Load() != p.plan {
			return errReplanned
		}
	}
}

// strike does what a byte fault says. It returns nil if pumping goes on.
func (p *pump) strike(kind ByteFaultKind) error {
	if kind == GarbageBytes {
		return nil
	}
	if !p.plan.forgotten {
		if err := p.flush(0); err != nil {
			return err
		}
	}
	switch kind {
	case ResetBytes:
		p.flow.abort()
	case CutBytes:
		p.flow.end(EndFIN)
		return errReplanned
	case StallBytes:
		select {
		case <-p.plan.replaced:
			return errReplanned
		case <-p.flow.closed:
		}
	}
	return net.ErrClosed
}

// read reads from src and, if the plan reaps idle flows, ends this one when
// neither direction saw a byte for too long.
func (p *pump) read(buf []byte) (int, error) {
	for {
		if p.plan.Idle > 0 {
			left := p.plan.Idle - p.flow.idleFor()
			if left <= 0 {
				p.flow.end(p.plan.IdleEnd)
				return 0, errReplanned
			}
			_ = p.src.SetReadDeadline(time.Now().Add(left))
			if p.flow.plan.Load() != p.plan {
				return 0, errReplanned // that deadline may have undone replan's
			}
		}
		n, err := p.src.Read(buf)
		if n > 0 {
			p.flow.touch()
		}
		if p.plan.Idle > 0 && errors.Is(err, os.ErrDeadlineExceeded) && p.flow.plan.Load() == p.plan {
			continue
		}
		return n, err
	}
}

// pass hands b on, now or later.
func (p *pump) pass(b []byte) error {
	if p.plan.Delay <= 0 {
		if err := p.flush(0); err != nil {
			return err
		}
		return write(p.dst, b, p.plan.Drip)
	}
	if p.line == nil {
		p.line = newDelayLine(p.dst, p.flow)
	}
	return p.line.put(b, time.Now().Add(p.plan.Delay), p.plan.Drip)
}

// flush returns when everything put into the delay line before has been
// written, and at the earliest after the given time.
func (p *pump) flush(after time.Duration) error {
	if p.line == nil {
		return nil
	}
	return p.line.flush(time.Now().Add(after))
}

// write writes b, with drip each byte by itself.
func write(dst *net.TCPConn, b []byte, drip bool) error {
	step := len(b)
	if drip {
		step = 1
	}
	for len(b) > 0 {
		if _, err := dst.Write(b[:step]); err != nil {
			return err
		}
		b = b[step:]
	}
	return nil
}

func inverse(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = ^c
	}
	return out
}
