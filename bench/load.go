// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
)

// newConnection returns the time from connecting to the first byte of the answer.
func (in *instance) newConnection(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	c, err := in.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Write([]byte{opEcho, 1}); err != nil {
		return 0, err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return 0, unexpected(err)
	}
	return time.Since(began), nil
}

// unexpected makes a clean end a failure.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// paced opens n connections, one every interval, or without pause after one that took longer.
func (in *instance) paced(ctx context.Context, n int, every time.Duration) ([]time.Duration, error) {
	took := make([]time.Duration, 0, n)
	for next := time.Now(); len(took) < n; {
		d, err := in.newConnection(ctx)
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", len(took)+1, err)
		}
		took = append(took, d)
		next = next.Add(every)
		if now := time.Now(); next.Before(now) {
			next = now
		}
		if err := pause(ctx, time.Until(next)); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// message is a request of 1 KiB and its answer.
const message = 1 << 10

// echoer opens a connection that answers every message.
func (in *instance) echoer(ctx context.Context) (net.Conn, error) {
	c, err := in.connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte{opEcho}); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// roundTrip sends one message and waits for its answer. The buffer is a message long.
func roundTrip(c net.Conn, buf []byte) error {
	if _, err := c.Write(buf); err != nil {
		return err
	}
	_, err := io.ReadFull(c, buf)
	return unexpected(err)
}

// pingPong goes to and fro until a number of rounds or a time has passed.
func (in *instance) pingPong(ctx context.Context, c net.Conn, rounds int, limit time.Duration) ([]time.Duration, error) {
	_ = c.SetDeadline(time.Now().Add(exchangeLimit))
	buf := make([]byte, message)
	took := make([]time.Duration, 0, rounds)
	began := time.Now()
	for last := began; len(took) < rounds && last.Sub(began) < limit && ctx.Err() == nil; {
		if err := roundTrip(c, buf); err != nil {
			return nil, fmt.Errorf("round %d: %w", len(took)+1, err)
		}
		now := time.Now()
		took = append(took, now.Sub(last))
		last = now
	}
	return took, ctx.Err()
}

// bulk moves n bytes in all, one way, over some connections at once.
func (in *instance) bulk(ctx context.Context, op byte, n int64, connections int) error {
	g, ctx := errgroup.WithContext(ctx)
	for range connections {
		g.Go(func() error { return in.stream(ctx, op, n/int64(connections)) })
	}
	return g.Wait()
}

// stream moves n bytes over a connection.
func (in *instance) stream(ctx context.Context, op byte, n int64) error {
	c, err := in.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.Write(request(op, n)); err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	move, last := c.Read, n
	if op == opUp {
		move, last = c.Write, 0
	}
	var moved int64
	for moved < n {
		m, err := move(buf[:min(n-moved, int64(len(buf)))])
		moved += int64(m)
		if err != nil && moved < n {
			return fmt.Errorf("after %d of %d bytes: %w", moved, n, unexpected(err))
		}
	}
	if last == n {
		return nil
	}
	if _, err := io.ReadFull(c, buf[:1]); err != nil {
		return fmt.Errorf("waiting for the acknowledgement: %w", unexpected(err))
	}
	return nil
}

// open opens n connections that have answered a message, a few at a time. On an error none is left open.
func (in *instance) open(ctx context.Context, n int) (conns []net.Conn, err error) {
	conns = make([]net.Conn, n)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range conns {
		g.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			c, err := in.echoer(gctx)
			if err != nil {
				return fmt.Errorf("connection %d: %w", i+1, err)
			}
			conns[i] = c
			return roundTrip(c, make([]byte, message))
		})
	}
	if err := g.Wait(); err != nil {
		closeAll(conns)
		return nil, err
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

// together sends messages on all connections at once, each in a loop, and returns how many were answered.
func together(ctx context.Context, conns []net.Conn, limit time.Duration) (int, error) {
	counts := make([]int, len(conns))
	g, ctx := errgroup.WithContext(ctx)
	end := time.Now().Add(limit)
	for i, c := range conns {
		_ = c.SetDeadline(end.Add(exchangeLimit))
		g.Go(func() error {
			buf := make([]byte, message)
			for time.Now().Before(end) && ctx.Err() == nil {
				if err := roundTrip(c, buf); err != nil {
					return err
				}
				counts[i]++
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum, nil
}
