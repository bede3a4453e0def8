// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/emf/emftest"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/proxy"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// measured is a metrics between a real proxy to a TCP echo and a state without credentials, whose time the test says.
type measured struct {
	*metrics
	t     testing.TB
	out   bytes.Buffer
	addr  string
	start time.Time
}

func newMeasured(t testing.TB) *measured {
	t.Helper()
	echo := listen(t)
	go serveEcho(echo)
	state, err := tlsstate.New(tlsstate.Config{Gateways: []string{"127.0.0.1:1"}, Source: noSource{}, Upstreams: []mesh.Upstream{}})
	if err != nil {
		t.Fatal(err)
	}
	m := &measured{t: t, start: time.Unix(1_700_000_000, 0)}
	m.metrics = &metrics{out: &m.out, log: slog.New(slog.DiscardHandler), function: "checkout", proxy: proxy.New(proxy.Config{}), state: state}
	dial := m.timed(func(ctx context.Context) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", echo.Addr().String())
		if err != nil {
			return nil, err
		}
		return copied{c.(*net.TCPConn)}, nil
	})
	addr, err := m.proxy.Listen(t.Context(), "127.0.0.1:0", proxy.Route{Name: "echo", Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	m.addr = addr.String()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = m.proxy.Serve(context.Background())
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = m.proxy.Shutdown(ctx)
		<-served
		state.Close()
	})
	return m
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func serveEcho(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

// copied hides that a leg is a socket, as TLS does: otherwise the kernel would move its bytes, and count them at the end.
type copied struct{ *net.TCPConn }

type noSource struct{}

func (noSource) Fetch(context.Context) ([]byte, error) { return nil, errors.New("no store") }

// connect sends five bytes through the proxy, and returns when they came back and the connection has ended.
func (m *measured) connect() {
	m.t.Helper()
	c, err := new(net.Dialer).DialContext(m.t.Context(), "tcp", m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(waittest.Patience))
	_, _ = io.WriteString(c, "hello")
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
		m.t.Fatalf("%q, %v", b, err)
	}
	m.idle()
}

// idle waits until no connection is open.
func (m *measured) idle() {
	m.t.Helper()
	waittest.Until(m.t, "the connection's end", func() bool { return m.proxy.Stats().Open == 0 })
}

// at ticks at a time after the start and returns the lines that were written by it.
func (m *measured) at(d time.Duration) []emftest.Line {
	m.t.Helper()
	m.tick(m.instant(d))
	return m.lines()
}

func (m *measured) instant(d time.Duration) clock.Instant { return clock.At(m.start.Add(d), d) }

func (m *measured) lines() (lines []emftest.Line) {
	m.t.Helper()
	for text := range strings.Lines(m.out.String()) {
		l, err := emftest.Parse(strings.TrimSuffix(text, "\n"))
		if err != nil {
			m.t.Fatalf("%v in %s", err, text)
		}
		lines = append(lines, l)
	}
	m.out.Reset()
	return lines
}

func (m *measured) none(lines []emftest.Line) {
	m.t.Helper()
	if len(lines) > 0 {
		m.t.Errorf("written: %v", lines)
	}
}

func TestALineCoversAMinuteInWhichSomethingHappened(t *testing.T) {
	m := newMeasured(t)
	m.none(m.at(0))
	m.connect()
	m.connect()
	for d := 200 * time.Millisecond; d < time.Minute; d += 200 * time.Millisecond {
		m.none(m.at(d))
	}
	lines := m.at(time.Minute)
	if len(lines) != 1 {
		t.Fatalf("%d lines, want 1", len(lines))
	}
	l := lines[0]
	if l.Namespace != "ConsulLambda/Extension" || len(l.Dimensions) != 1 || l.Dimensions["FunctionName"] != "checkout" {
		t.Errorf("%s %v", l.Namespace, l.Dimensions)
	}
	if !l.At.Equal(m.start.Add(time.Minute)) {
		t.Errorf("as of %v", l.At)
	}
	if l.Sum("Connections") != 2 || l.Sum("BytesSent") != 10 || l.Sum("BytesReceived") != 10 || len(l.Metrics["DialMilliseconds"]) != 2 {
		t.Errorf("of two connections of five bytes: %v", l.Metrics)
	}
	if v := l.Metrics["Resets"]; len(v) != 1 || v[0] != 0 {
		t.Errorf("resets: %v, want 0, for alarms to see", v)
	}
	for name := range l.Metrics {
		if strings.HasPrefix(name, "Resets") && name != "Resets" {
			t.Errorf("%s is paid for, and did not occur", name)
		}
	}
	m.none(m.at(2 * time.Minute)) // nothing happened
	m.connect()
	m.none(m.at(3*time.Minute - time.Second))
	if lines := m.at(3 * time.Minute); len(lines) != 1 || lines[0].Sum("Connections") != 1 {
		t.Errorf("the next line: %v", lines)
	}
}

// A connection that stays open is not silent until it ends, and its bytes count once.
func TestTheBytesOfAnOpenConnectionCountWhenTheyMove(t *testing.T) {
	m := newMeasured(t)
	m.none(m.at(0))
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", m.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for i, d := range []time.Duration{time.Minute, 2 * time.Minute} {
		if _, err := io.WriteString(c, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if lines := m.at(d); len(lines) != 1 || lines[0].Sum("BytesSent") != 5 || lines[0].Sum("Connections") != float64(1-i) {
			t.Errorf("minute %d: %v", i, lines)
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, c)
	m.idle()
	m.none(m.at(3 * time.Minute))
}

// R14: what was before a freeze is written after it, and belongs before it.
func TestWhatHappenedBeforeAFreezeIsAsOfBeforeIt(t *testing.T) {
	m := newMeasured(t)
	m.none(m.at(0))
	m.connect()
	m.none(m.at(200 * time.Millisecond))
	lines := m.at(time.Hour)
	if len(lines) != 1 || !lines[0].At.Equal(m.start.Add(200*time.Millisecond)) {
		t.Errorf("%v", lines)
	}
}

// R16: the last line, also when the sandbox was frozen until its end.
func TestTheLastLineIsWrittenAtTheEndWhateverTheTime(t *testing.T) {
	m := newMeasured(t)
	m.none(m.at(0))
	m.connect()
	m.write(m.instant(time.Minute))
	lines := m.lines()
	if len(lines) != 1 || lines[0].Sum("Connections") != 1 || !lines[0].At.Equal(m.start) {
		t.Errorf("%v", lines)
	}
	m.write(m.instant(time.Minute))
	m.none(m.lines())
}

func TestEachCauseOfResetsIsAMetricOnceItOccurred(t *testing.T) {
	before := totals{proxy: proxy.Stats{Ended: map[proxy.Cause]int64{proxy.CauseDial: 2, proxy.CauseShutdown: 1}}}
	after := totals{proxy: proxy.Stats{Ended: map[proxy.Cause]int64{proxy.CauseDial: 2, proxy.CauseShutdown: 3, proxy.CauseHalfClosed: 1, proxy.CauseRefused: 4}}}
	got := map[string]float64{}
	for _, m := range after.since(before) {
		if strings.HasPrefix(m.Name, "Resets") {
			got[m.Name] = m.Values[0]
		}
	}
	if len(got) != 3 || got["Resets"] != 5 || got["ResetsHalfClosed"] != 1 || got["ResetsRefused"] != 4 {
		t.Errorf("%v", got)
	}
}

// R12.
func TestADefectInTheMetricsEndsNothing(t *testing.T) {
	m := &metrics{log: slog.New(slog.DiscardHandler)} // without a proxy to read
	m.write(clock.Clock(nil).Now())
}

// What metrics cost a connection, beside a dial that costs nothing. Off is what the extension had before there were metrics:
// the dial itself. It does not see the two readings of the clock around a handshake, which takes 10,000 times as long.
func BenchmarkDialer(b *testing.B) {
	dial := func(context.Context) (net.Conn, error) { return nil, nil }
	for name, dial := range map[string]func(context.Context) (net.Conn, error){"off": dial, "emf": new(metrics).timed(dial)} {
		b.Run("metrics="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = dial(b.Context())
			}
		})
	}
}

// What a line costs, once a minute; and the look at the time, five times a second.
func BenchmarkTick(b *testing.B) {
	m := newMeasured(b)
	m.tick(m.instant(0))
	b.Run("due=false", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.tick(m.instant(time.Second))
		}
	})
	b.Run("due=true", func(b *testing.B) {
		m.out.Grow(100 << 20)
		b.ReportAllocs()
		d := time.Minute
		for b.Loop() {
			m.last.proxy.Accepted--
			m.tick(m.instant(d))
			d += time.Minute
		}
	})
}
