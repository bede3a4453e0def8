// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/emf/emftest"
	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
)

// metricsOf are the lines of metrics that the extension wrote. Each must be what CloudWatch takes.
func metricsOf(t testing.TB, lines []lambdasim.Line) (metrics []emftest.Line) {
	t.Helper()
	for _, l := range lines {
		if l.Source != lab.ExtensionName || !emftest.IsOne(l.Text) {
			continue
		}
		m, err := emftest.Parse(l.Text)
		if err != nil {
			t.Errorf("%v in %s", err, l.Text)
		}
		metrics = append(metrics, m)
	}
	return metrics
}

// echoed sends n bytes through a connection of the function and reads them back.
func echoed(t testing.TB, c *net.TCPConn, n int) {
	t.Helper()
	_, err := c.Write(make([]byte, n))
	ok(t, err)
	_, err = io.CopyN(io.Discard, c, int64(n))
	ok(t, err)
}

// R11, R16: a sandbox that lives less than a minute writes one line, after the drain; it counts what the test did, the
// connection included that was open until the end.
func TestTheLastLineOfMetricsCountsWhatHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, env{"CONSUL_EXTENSION_METRICS": "emf", "CONSUL_EXTENSION_WARM_CONNECTIONS": "0"})
	began := time.Now()
	for range 3 {
		c := connect(t, w, lab.Echo)
		echoed(t, c, 1000)
		ok(t, c.CloseWrite())
		_, err := io.Copy(io.Discard, c)
		ok(t, err)
	}
	echoed(t, connect(t, w, lab.Echo), 500)
	refused(t, w, lab.Denied)
	_, exit := shutDown(t, box)
	if exit.Code != 0 {
		t.Errorf("exit: %+v", exit)
	}

	lines := metricsOf(t, box.Logs())
	if len(lines) != 1 {
		t.Fatalf("%d lines of metrics, want 1", len(lines))
	}
	m := lines[0]
	if m.Namespace != "ConsulLambda/Extension" || fmt.Sprint(m.Dimensions) != fmt.Sprint(map[string]string{"FunctionName": w.Function().Name}) {
		t.Errorf("%s %v", m.Namespace, m.Dimensions)
	}
	if m.At.Before(began.Add(-time.Second)) || m.At.After(time.Now()) {
		t.Errorf("as of %v", m.At)
	}
	sent := m.Sum("BytesSent") - 3500 // and what was sent to the service that refuses
	for name, want := range map[string]float64{
		"Connections": 5, "BytesReceived": 3500, "SpareHits": 0, "Handshakes": 5, "HandshakesResumed": m.Sum("HandshakesResumed"),
		"RefreshFailures": 0, "Resets": 1, "ResetsRefused": 1,
	} {
		if v := m.Metrics[name]; len(v) != 1 || v[0] != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	if sent < 0 || sent > 17 {
		t.Errorf("BytesSent is %v too much", sent)
	}
	for _, name := range []string{"DialMilliseconds", "HandshakeMilliseconds"} {
		v := m.Metrics[name]
		if len(v) != 5 || v[0] <= 0 || v[4] > 5000 || m.Units[name] != "Milliseconds" {
			t.Errorf("%s: %v %s", name, v, m.Units[name])
		}
	}
	if left := m.Sum("LeafLifeLeftSeconds"); left <= 0 || left > (100*24*time.Hour).Seconds() {
		t.Errorf("LeafLifeLeftSeconds is %v", left)
	}
	if age := m.Metrics["RefreshAgeSeconds"]; len(age) != 1 || age[0] < 0 || age[0] > patience.Seconds()*4 {
		t.Errorf("RefreshAgeSeconds is %v", age)
	}
	stopped := 0
	for i, l := range box.Logs() {
		if emftest.IsOne(l.Text) {
			stopped = i
		}
	}
	if rest := box.Logs()[stopped:]; count(rest, `"stopped"`) != 1 {
		t.Error("the last line of metrics is not after the drain")
	}
}

// Spares that are used are counted, and so is every handshake ahead of need. A spare that is just reading what the gateway
// sent after its handshake is not handed out, so one call alone may miss it.
func TestMetricsTellWhatSparesAreWorth(t *testing.T) {
	t.Parallel()
	const calls = 8
	w := newWorld(t, lab.Config{})
	box := start(t, w, env{"CONSUL_EXTENSION_METRICS": "emf"})
	for range calls {
		works(t, w)
	}
	shutDown(t, box)
	lines := metricsOf(t, box.Logs())
	if len(lines) != 1 {
		t.Fatalf("%d lines of metrics, want 1", len(lines))
	}
	m := lines[0]
	hits, connections, handshakes := m.Sum("SpareHits"), m.Sum("Connections"), m.Sum("Handshakes")
	if connections != calls || hits < 1 || hits > calls || handshakes < connections-hits+1 {
		t.Errorf("%v connections, %v of them spares, after %v handshakes", connections, hits, handshakes)
	}
}

// Off is the default, and writes nothing.
func TestThereAreNoMetricsUnlessAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	for _, changes := range []env{{}, {"CONSUL_EXTENSION_METRICS": "off"}} {
		box := start(t, w, changes)
		works(t, w)
		shutDown(t, box)
		if n := len(metricsOf(t, box.Logs())); n != 0 {
			t.Errorf("with %v: %d lines of metrics", changes, n)
		}
	}
}
