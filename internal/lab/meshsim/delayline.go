// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"net"
	"time"
)

const (
	// chunkSize is how much a pump reads at once in user space.
	chunkSize = 32 << 10
	// lineChunks bounds what is under way in a delay line to 16 MiB: 6 Gbit/s at
	// 20 ms. A fuller line makes its sender wait, as a full router does not.
	lineChunks = 512
)

// delayLine writes to a connection what it is given, each piece when it is
// due, in the order given. One goroutine puts, one goroutine (run) writes.
type delayLine struct {
	dst    *net.TCPConn
	flow   *flow
	queue  chan delayed
	done   chan struct{} // closed when run has returned
	failed error         // why it returned early; read after done
}

// delayed is a piece under way. One without bytes marks a place in the line.
type delayed struct {
	b       []byte
	due     time.Time
	drip    bool
	reached chan<- struct{} // closed when it is due, if not nil
}

func newDelayLine(dst *net.TCPConn, f *flow) *delayLine {
	l := &delayLine{dst: dst, flow: f, queue: make(chan delayed, lineChunks), done: make(chan struct{})}
	go l.run()
	return l
}

// put copies b into the line. It is not written before due, nor before an
// earlier piece.
func (l *delayLine) put(b []byte, due time.Time, drip bool) error {
	return l.enqueue(delayed{b: append([]byte(nil), b...), due: due, drip: drip})
}

// flush waits until all earlier pieces are written and due has come.
func (l *delayLine) flush(due time.Time) error {
	reached := make(chan struct{})
	if err := l.enqueue(delayed{due: due, reached: reached}); err != nil {
		return err
	}
	select {
	case <-reached:
		return nil
	case <-l.done:
		return l.failed
	}
}

func (l *delayLine) enqueue(d delayed) error {
	select {
	case l.queue <- d:
		return nil
	case <-l.done:
		return l.failed
	}
}

// close waits until what is in the line is written, or cannot be, and ends it.
func (l *delayLine) close() {
	close(l.queue)
	<-l.done
}

// run writes until the queue is closed and empty, the flow is closed, or a
// write fails. Owner: the pump that made the line.
func (l *delayLine) run() {
	defer close(l.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for d := range l.queue {
		if wait := time.Until(d.due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-l.flow.closed:
				l.failed = net.ErrClosed
				return
			}
		}
		if l.flow.plan.Load().forgotten {
			continue
		}
		if err := write(l.dst, d.b, d.drip); err != nil {
			l.failed = err
			return
		}
		if d.reached != nil {
			close(d.reached)
		}
	}
}
