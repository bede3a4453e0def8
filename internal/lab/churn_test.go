// SPDX-License-Identifier: MPL-2.0

package lab_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/proxy"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

const (
	churnConnections = 8
	churnBytes       = 3 << 20 // in each direction, of each connection: 24 MiB in all
	churnEvery       = 50 * time.Millisecond
	churnRootEvery   = 5 // every so many refreshes bring a new root

	// churnTime is how long the streams are made to last: without pauses they would be over before the second refresh.
	churnTime = 900 * time.Millisecond
)

// R7, R2, R3, R6: everything changes all the time, and no byte is lost. Eight connections carry 3 MiB in each direction,
// whose client ends first, while the credentials are refreshed every 50 ms, each time with a new leaf and every fifth time
// with a new root of the whole mesh; beside them new connections are made without a pause, and each must succeed. It is
// the real tlsstate and the real proxy, joined as the extension does it; in one process, because the extension itself
// refreshes once a second at the most.
func TestNothingIsLostWhileCredentialsChangeEvery50Milliseconds(t *testing.T) {
	w, err := lab.New(t.Context(), lab.Config{})
	ok(t, err)
	t.Cleanup(func() { ok(t, w.Close()) })
	c := startChurn(t, w)

	conns := make([]*net.TCPConn, churnConnections)
	for i := range conns {
		conns[i], err = c.open(t.Context())
		ok(t, err)
		t.Cleanup(func() { _ = conns[i].Close() })
	}
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	streams, ctx := errgroup.WithContext(ctx)
	for i, conn := range conns {
		streams.Go(func() error { return stream(ctx, conn, uint64(i)) })
	}
	others, stop := context.WithCancel(ctx)
	beside := new(errgroup.Group)
	refreshes, callers := 0, make(map[string]int)
	beside.Go(func() (err error) { refreshes, err = c.refresh(others, w); return err })
	beside.Go(func() error { return c.call(others, callers) })

	begin := time.Now()
	err = streams.Wait()
	took := time.Since(begin)
	stop()
	if err := errors.Join(err, beside.Wait()); err != nil {
		t.Error(err)
	}
	generations := c.state.Snapshot().Generation()
	if want := 1 + uint64(refreshes); generations != want {
		t.Errorf("%d generations after %d refreshes, want %d: each document must be used once", generations, refreshes, want)
	}
	// On a busy machine few new connections get through, but never one that fails.
	if refreshes <= churnRootEvery || len(callers) < 2 {
		t.Errorf("%d refreshes in %v, and %d leaves shown by new connections: nothing was tried", refreshes, took, len(callers))
	}
	if st := c.proxy.Stats(); len(st.Ended) > 0 {
		t.Errorf("connections ended by %v", st.Ended)
	}
	t.Logf("%d MiB each way in %v, %d generations, %d roots, new connections showed %d leaves", churnConnections*churnBytes>>20, took, generations, w.Mesh.CA.Generation(), len(callers))
}

// churn is the extension's core, wired as its main does it.
type churn struct {
	state *tlsstate.State
	proxy *proxy.Server
	skew  clocktest.Skew
	store source
	echo  string // where the service Echo is reached
	greet string // and the service Greeter
	calls atomic.Int64
}

// source is the store: a variable.
type source struct{ document atomic.Pointer[[]byte] }

func (s *source) Fetch(context.Context) ([]byte, error) { return *s.document.Load(), nil }

// churnRefresh is more than tlsstate's shortest interval, and less than what looks like a freeze.
const churnRefresh = 500 * time.Millisecond

func startChurn(t testing.TB, w *lab.World) *churn {
	t.Helper()
	c := new(churn)
	ok(t, c.copyDocument(w))
	upstreams, err := mesh.ParseUpstreams(lab.Echo + ":1," + lab.Greeter + ":2")
	ok(t, err)
	c.state, err = tlsstate.New(tlsstate.Config{
		Upstreams: upstreams,
		Gateways:  []string{w.Mesh.Gateway.Addr()},
		Source:    &c.store,
		Refresh:   churnRefresh,
		Spares:    []int{1, 1},
		Clock:     c.skew.Now,
	})
	ok(t, err)
	c.proxy = proxy.New(proxy.Config{
		DialTimeout: waittest.Patience, // the streams can starve a handshake for seconds under the race detector
		Logger:      slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	for i, addr := range []*string{&c.echo, &c.greet} {
		bound, err := c.proxy.Listen(t.Context(), "127.0.0.1:0", proxy.Route{Name: upstreams[i].String(), Dial: func(ctx context.Context) (net.Conn, error) {
			conn, err := c.state.Dial(ctx, i)
			if err != nil {
				return nil, err
			}
			return conn, nil
		}})
		ok(t, err)
		*addr = bound.String()
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { c.state.Run(ctx) })
	running.Go(func() { _ = c.proxy.Serve(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); c.state.Close() })
	_, err = c.state.Ready(t.Context())
	ok(t, err)
	return c
}

func (c *churn) copyDocument(w *lab.World) error {
	p, found := w.Store.Get(w.ParameterPath())
	if !found {
		return errors.New("the world's store is empty")
	}
	doc := []byte(p.Value)
	c.store.document.Store(&doc)
	return nil
}

// refresh brings new credentials until ctx ends, and returns how often.
func (c *churn) refresh(ctx context.Context, w *lab.World) (n int, err error) {
	tick := time.NewTicker(churnEvery)
	defer tick.Stop()
	newRoot, calls := false, int64(0)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n, nil
		}
		n++
		newRoot = newRoot || n%churnRootEvery == 0
		// A service shows a leaf whose root the one before has signed too, so that a dial may see one rotation: but not
		// two, which on a starved machine could come while it is under way.
		if done := c.calls.Load(); newRoot && done > calls {
			newRoot, calls = false, done
			if err := w.RotateRoot(); err != nil {
				return n, err
			}
		}
		if _, err := w.StoreLeaf(0); err != nil {
			return n, err
		}
		if err := c.copyDocument(w); err != nil {
			return n, err
		}
		// What is due by the clock is read now: the interval has passed, and the process is told that it slept.
		want := c.state.Snapshot().Generation() + 1
		c.skew.Jump(churnRefresh)
		c.state.Thawed(churnRefresh)
		if !waittest.Within(waittest.Patience, func() bool { return c.state.Snapshot().Generation() >= want }) {
			return n, fmt.Errorf("refresh %d was not taken up", n)
		}
	}
}

// open makes a connection to Echo that works.
func (c *churn) open(ctx context.Context) (*net.TCPConn, error) {
	conn, err := dialTCP(ctx, c.echo)
	if err != nil {
		return nil, err
	}
	if _, err = conn.Write([]byte{0}); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// stream sends bytes in pieces of all sizes, ends its direction, and wants the same bytes back to the end.
func stream(ctx context.Context, conn *net.TCPConn, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 7))
	data := make([]byte, churnBytes)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	sent := make(chan error, 1)
	go func() { sent <- send(ctx, conn, data, rng) }()
	sum := sha256.New()
	n, err := io.Copy(sum, conn)
	if err := errors.Join(err, <-sent); err != nil {
		return fmt.Errorf("stream %d, after %d of %d bytes: %w", seed, n, len(data), err)
	}
	if want := sha256.Sum256(data); n != int64(len(data)) || !bytes.Equal(sum.Sum(nil), want[:]) {
		return fmt.Errorf("stream %d: %d bytes came back, and not the %d that were sent", seed, n, len(data))
	}
	return nil
}

// send spreads the data over churnTime. Owner: stream, which waits for it.
func send(ctx context.Context, conn *net.TCPConn, data []byte, rng *rand.Rand) error {
	begin, total := time.Now(), len(data)
	for len(data) > 0 {
		n := min(len(data), 1+rng.IntN(1+rng.IntN(128<<10)))
		if _, err := conn.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
		due := begin.Add(churnTime * time.Duration(total-len(data)) / time.Duration(total))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return conn.CloseWrite()
}

// call makes one connection after the other until ctx ends, and counts the leaves that the service was shown.
func (c *churn) call(ctx context.Context, leaves map[string]int) error {
	for ctx.Err() == nil {
		h, err := c.hello(context.WithoutCancel(ctx))
		if err != nil {
			return fmt.Errorf("a new connection: %w", err)
		}
		leaves[h.Leaf]++
		c.calls.Add(1)
	}
	return nil
}

func (c *churn) hello(ctx context.Context) (h lab.Hello, err error) {
	conn, err := dialTCP(ctx, c.greet)
	if err != nil {
		return h, err
	}
	defer func() { _ = conn.Close() }()
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return h, err
	}
	if err := conn.CloseWrite(); err != nil {
		return h, err
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		return h, fmt.Errorf("after the greeting: %q, %w", rest, err)
	}
	return h, json.Unmarshal(line, &h)
}

func dialTCP(ctx context.Context, addr string) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(waittest.Patience))
	return conn.(*net.TCPConn), nil
}
