// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// The function waits for its first answer, and is woken by it: the handshake of the next spare keeps out of the way of both, and is
// not put off for longer, however slow the answer is.
func TestARefillLeavesTheFunctionAloneWithItsFirstAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ answer, refill time.Duration }{
		"a quick answer": {100 * time.Microsecond, 100*time.Microsecond + answerFirst},
		"a slow answer":  {time.Second, refillAfter},
	} {
		synctest.Test(t, func(t *testing.T) {
			dialled := make(chan time.Time, 1)
			p := newSpares(sparesConfig{want: 1, maxIdle: time.Minute, log: slog.New(slog.DiscardHandler),
				dial: func(context.Context) (*Conn, error) {
					dialled <- time.Now()
					return nil, errors.New("refused")
				}})
			defer p.close()
			conn, began := new(Conn), time.Now()
			p.connected(conn)
			time.Sleep(c.answer)
			n := 1
			conn.firstRead(&n)
			if took := (<-dialled).Sub(began); took != c.refill {
				t.Errorf("%s after %v: the refill began after %v, want %v", name, c.answer, took, c.refill)
			}
			time.Sleep(time.Minute)
			if len(dialled) > 0 {
				t.Errorf("%s: the refill began twice", name)
			}
		})
	}
}
