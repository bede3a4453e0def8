// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/emf"
	"github.com/consul-lambda/consul-lambda/proxy"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

const (
	metricsNamespace = "ConsulLambda/Extension"

	// metricsEvery is how much time one line covers, by either clock (R14): CloudWatch keeps one minute apart from the next,
	// so that shorter would cost lines and show nothing more.
	metricsEvery = time.Minute
)

// metrics writes, with CONSUL_EXTENSION_METRICS=emf, a line with what happened since the line before: one a minute while
// something happens, and one at the end. Without it there is no metrics, and nothing is measured.
//
// The function's name is the only dimension. Each metric of each combination of dimensions is a custom metric with a
// monthly price, and upstreams as a second dimension would multiply it; the log line of a failure names the upstream.
//
// No timer is its own. It looks at the time when the watch for freezes reads the clocks, five times a second while the process
// runs: a comparison. A connection of the function costs two readings of the clock and an atomic addition, its bytes nothing.
//
// What happened before a freeze is written after it, as of before it. A line that nothing happened for is not written.
//
// To add a metric: count it in the Stats of proxy or tlsstate and give it a line in since, or measure it and give it one in values.
// If it is worth a line when nothing else happened, same has to compare it. It costs each user its price: docs/operations.md has the
// table and the sum.
type metrics struct {
	out      io.Writer // each line is one Write
	log      *slog.Logger
	function string
	proxy    *proxy.Server
	state    *tlsstate.State

	dials, handshakes emf.Histogram

	mu     sync.Mutex // guards what follows
	began  clock.Instant
	ticked clock.Instant
	last   totals
}

// totals are the counts since the start.
type totals struct {
	proxy proxy.Stats
	tls   tlsstate.Stats
}

// timed is a dial that is measured: what the function waits for.
func (m *metrics) timed(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		began := time.Now()
		conn, err := dial(ctx)
		if err == nil {
			m.dials.Observe(time.Since(began))
		}
		return conn, err
	}
}

// tick writes a line if one is due. The watch calls it.
func (m *metrics) tick(now clock.Instant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.began.IsZero() {
		m.began = now
	}
	if now.Sub(m.began) >= metricsEvery {
		m.writeLocked(now)
		m.began = now
	}
	m.ticked = now
}

// write writes a line, whatever the time.
func (m *metrics) write(now clock.Instant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeLocked(now)
}

func (m *metrics) writeLocked(now clock.Instant) {
	defer func() {
		if p := recover(); p != nil { // R12
			m.log.Error("metrics were not written", "error", fmt.Sprint("panic: ", p))
		}
	}()
	t := totals{m.proxy.Stats(), m.state.Stats()}
	if t.same(m.last) {
		return
	}
	at := now
	if now.Sub(m.ticked) >= clock.Threshold && !m.ticked.IsZero() {
		at = m.ticked // frozen since
	}
	line, err := emf.Record{
		Namespace:  metricsNamespace,
		At:         at.Wall(),
		Dimensions: []emf.Dimension{{Name: "FunctionName", Value: m.function}},
		Metrics:    append(t.since(m.last), m.values(t, at, now)...),
	}.Line()
	m.last = t
	if err != nil {
		m.log.Error("metrics were not written", "error", err)
		return
	}
	_, _ = m.out.Write(line) // nobody is left to be told
}

// same says whether nothing happened between two readings.
func (t totals) same(u totals) bool {
	return t.proxy.Accepted == u.proxy.Accepted && t.proxy.Sent == u.proxy.Sent && t.proxy.Received == u.proxy.Received &&
		maps.Equal(t.proxy.Ended, u.proxy.Ended) &&
		t.tls.Handshakes == u.tls.Handshakes && t.tls.Failures == u.tls.Failures && t.tls.RefreshFailures == u.tls.RefreshFailures
}

// since returns what was counted since an earlier reading. A cause of resets is a metric of its own, and there only when it
// occurred: otherwise it would cost its price for nothing. Sandboxes end, and their connections with them: that is no reset.
func (t totals) since(u totals) []emf.Metric {
	one := func(name string, unit emf.Unit, now, before int64) emf.Metric {
		return emf.Metric{Name: name, Unit: unit, Values: []float64{float64(now - before)}}
	}
	list := []emf.Metric{
		one("Connections", emf.Count, t.proxy.Accepted, u.proxy.Accepted),
		one("BytesSent", emf.Bytes, t.proxy.Sent, u.proxy.Sent),
		one("BytesReceived", emf.Bytes, t.proxy.Received, u.proxy.Received),
		one("SpareHits", emf.Count, t.tls.Spares, u.tls.Spares),
		one("Handshakes", emf.Count, t.tls.Handshakes, u.tls.Handshakes),
		one("HandshakesResumed", emf.Count, t.tls.Resumed, u.tls.Resumed),
		one("RefreshFailures", emf.Count, t.tls.RefreshFailures, u.tls.RefreshFailures),
	}
	var resets int64
	for _, cause := range slices.Sorted(maps.Keys(t.proxy.Ended)) {
		if n := t.proxy.Ended[cause] - u.proxy.Ended[cause]; n > 0 && cause != proxy.CauseShutdown {
			list = append(list, one(resetsBy(cause), emf.Count, n, 0))
			resets += n
		}
	}
	return append(list, one("Resets", emf.Count, resets, 0))
}

// resetsBy names the metric of a cause: ResetsHalfClosed.
func resetsBy(cause proxy.Cause) string {
	name := "Resets"
	for word := range strings.SplitSeq(string(cause), "-") {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	return name
}

// values returns what is measured rather than counted, as of at, which is now or before a freeze.
func (m *metrics) values(t totals, at, now clock.Instant) []emf.Metric {
	list := []emf.Metric{
		{Name: "DialMilliseconds", Unit: emf.Milliseconds, Values: m.dials.Drain()},
		{Name: "HandshakeMilliseconds", Unit: emf.Milliseconds, Values: m.handshakes.Drain()},
	}
	if snap := m.state.Snapshot(); snap != nil {
		left := snap.NotAfter().Sub(at.Wall())
		list = append(list, emf.Metric{Name: "LeafLifeLeftSeconds", Unit: emf.Seconds, Values: []float64{left.Round(time.Second).Seconds()}})
	}
	if t.tls.RefreshAge >= 0 {
		age := max(0, t.tls.RefreshAge-now.Sub(at))
		list = append(list, emf.Metric{Name: "RefreshAgeSeconds", Unit: emf.Seconds, Values: []float64{age.Round(time.Second).Seconds()}})
	}
	return list
}
