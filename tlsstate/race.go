// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// stagger is how long one attempt is alone before the next gateway or address is tried as well: about the time of a
// lost SYN's first retransmission, and a sixth of the default dial timeout.
const stagger = 300 * time.Millisecond

// race tries n ways one after the other. The next one starts when one has failed, or the latest has taken longer than
// stagger. The first success wins; the rest are cancelled, and closed if they succeed all the same. The error is that of
// all ways.
func race(ctx context.Context, n int, try func(ctx context.Context, i int) (*Conn, error)) (*Conn, error) {
	if n == 1 {
		return try(ctx, 0)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errLost)
	results := make(chan raced, n)
	started, finished := 1, 0
	go raceOne(ctx, 0, try, results)
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	var errs []error
	for finished < n {
		select {
		case r := <-results:
			finished++
			if r.err == nil {
				go closeLosers(results, started-finished)
				return r.conn, nil
			}
			errs = append(errs, r.err)
		case <-timer.C:
		}
		if started < n {
			go raceOne(ctx, started, try, results)
			started++
			timer.Reset(stagger)
		}
	}
	return nil, join(errs)
}

// raced is how one attempt of a race ended.
type raced struct {
	conn *Conn
	err  error
}

// raceOne is one attempt of a race. There is room for what it tells, so that it ends even if nobody listens any more.
func raceOne(ctx context.Context, i int, try func(context.Context, int) (*Conn, error), results chan<- raced) {
	conn, err := safely(ctx, func(ctx context.Context) (*Conn, error) { return try(ctx, i) })
	results <- raced{conn, err}
}

// closeLosers waits for the attempts that a race left behind. They were cancelled, and end as soon as the dial or the handshake
// that each is in has noticed.
func closeLosers(results <-chan raced, n int) {
	for range n {
		if r := <-results; r.err == nil {
			_ = r.conn.Reset()
		}
	}
}

// safely is a dial whose panic is its error: it ends an attempt, or a spare, and not the function (R12).
func safely(ctx context.Context, dial func(context.Context) (*Conn, error)) (conn *Conn, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
		}
	}()
	return dial(ctx)
}
