// SPDX-License-Identifier: MPL-2.0

package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/proxy"
)

// R16: connections that the function made, and that were not accepted when the shutdown began, are taken in.
func TestADrainTakesConnectionsThatWereNotAcceptedYet(t *testing.T) {
	t.Parallel()
	const waiting = 50
	dial, heard := words(t)
	gate := make(chan struct{}) // holds the accept loop at the first connection
	w := start(t, proxy.Config{Watch: &clock.Watch{Clock: func() clock.Instant {
		<-gate
		return clock.Clock(nil).Now()
	}}}, dial)
	sayLastWords(t, w.addr, waiting)
	close(gate)
	drain(t, w.Server)
	wantLastWords(t, heard, waiting)
}

// R16: bytes that wait for a dial are not silence, however long the dial takes within its bound.
func TestADrainWaitsForTheDialThatTheFunctionsBytesWaitFor(t *testing.T) {
	t.Parallel()
	dial, heard := words(t)
	dialling, reached := make(chan struct{}), make(chan struct{})
	w := start(t, proxy.Config{DialTimeout: patience}, func(ctx context.Context) (net.Conn, error) {
		close(dialling)
		select {
		case <-reached:
			return dial(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	sayLastWords(t, w.addr, 1)
	<-dialling
	time.AfterFunc(1300*time.Millisecond, func() { close(reached) }) // longer than any other patience of a drain
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	wantLastWords(t, heard, 1)
}

// R16: what an upstream has not taken yet is flushed: its kernel must have all of it before the process may end. And as
// long as it may still take it, it may still answer.
func TestADrainLastsUntilTheUpstreamHasTakenWhatIsQueuedForIt(t *testing.T) {
	t.Parallel()
	const size, busy = 200_000, 500 * time.Millisecond
	for name, answer := range map[string]string{"it answers": "done", "it has ended before": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			free := make(chan struct{})
			received := make(chan int, 1)
			dial := upstream(t, pairs["copied"], func(c *net.TCPConn) {
				if answer == "" {
					_, _ = io.WriteString(c, "x")
					_ = c.CloseWrite()
				}
				_ = c.SetReadBuffer(4096)
				<-free
				b, _ := io.ReadAll(c)
				received <- len(b)
				_, _ = io.WriteString(c, answer)
			})
			w := start(t, proxy.Config{}, dial)
			c := w.connect(t)
			if answer == "" {
				if got, err := io.ReadAll(c); string(got) != "x" || err != nil {
					t.Fatalf("read %q, %v", got, err)
				}
			}
			_, _ = c.Write(make([]byte, size))
			moved := func() bool { return w.Progress() >= size }
			waittest.Until(t, "the proxy to have passed all on", moved)
			time.AfterFunc(busy, func() { close(free) })
			began := time.Now()
			ended := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				ended <- w.Shutdown(ctx)
			}()
			waittest.Until(t, "the drain to begin", func() bool {
				_, err := w.Listen(t.Context(), "127.0.0.1:0", proxy.Route{Name: "late"})
				return errors.Is(err, proxy.ErrServerClosed)
			})
			_ = c.CloseWrite()
			if answer != "" {
				if got, err := io.ReadAll(c); string(got) != answer || err != nil {
					t.Errorf("the answer is %q, %v, want %q", got, err, answer)
				}
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took < busy {
				t.Errorf("the drain took %v, and the upstream took nothing for %v", took, busy)
			}
			if n := <-received; n != size {
				t.Errorf("%d of %d bytes arrived", n, size)
			}
		})
	}
}
