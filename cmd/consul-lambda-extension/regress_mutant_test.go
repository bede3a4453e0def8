// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/extensionenv"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/proxy"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// R16: a deadline that has passed, or is further away than Lambda's, was read from a clock that was set meanwhile.
func TestADeadlineThatCannotBeReliedOnIsLambdasOwn(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for name, c := range map[string]struct{ deadline, want time.Duration }{
		"sound":         {time.Second, time.Second},
		"passed":        {-time.Second, shutdownLimit},
		"a day from it": {24 * time.Hour, shutdownLimit},
	} {
		if got := shutdownBy(now, now.Add(c.deadline)).Sub(now); got != c.want {
			t.Errorf("%s: %v left, want %v", name, got, c.want)
		}
	}
	if got := shutdownBy(now, time.Time{}).Sub(now); got != shutdownLimit {
		t.Errorf("without one: %v left, want %v", got, shutdownLimit)
	}
}

// A line tells of whatever happened, also when it is one thing alone.
func TestWhateverHappensAloneIsWorthALine(t *testing.T) {
	for name, happened := range map[string]totals{
		"a connection":     {proxy: proxy.Stats{Accepted: 1}},
		"bytes sent":       {proxy: proxy.Stats{Sent: 1}},
		"bytes received":   {proxy: proxy.Stats{Received: 1}},
		"a reset":          {proxy: proxy.Stats{Ended: map[proxy.Cause]int64{proxy.CauseDial: 1}}},
		"a handshake":      {tls: tlsstate.Stats{Handshakes: 1}},
		"a failed dial":    {tls: tlsstate.Stats{Failures: 1}},
		"a failed refresh": {tls: tlsstate.Stats{RefreshFailures: 1}},
	} {
		if happened.same(totals{}) {
			t.Errorf("%s is nothing", name)
		}
	}
	if !(totals{tls: tlsstate.Stats{RefreshAge: time.Hour}}).same(totals{}) {
		t.Error("that time went by is something")
	}
}

func TestADialThatFailedHasNoDuration(t *testing.T) {
	m := new(metrics)
	_, _ = m.timed(func(context.Context) (net.Conn, error) { return nil, errors.New("refused") })(t.Context())
	if v := m.dials.Drain(); len(v) != 0 {
		t.Errorf("measured: %v", v)
	}
}

// A sandbox may end before the watch has looked at the time once.
func TestALineBeforeTheFirstTickIsAsOfNow(t *testing.T) {
	m := newMeasured(t)
	m.connect()
	m.write(m.instant(time.Second))
	if lines := m.lines(); len(lines) != 1 || !lines[0].At.Equal(m.start.Add(time.Second)) {
		t.Errorf("%v", lines)
	}
}

// R14: what is measured in a line about the time before a freeze is as of then.
func TestAgesAreAsOfBeforeAFreeze(t *testing.T) {
	state, err := tlsstate.New(tlsstate.Config{
		Gateways: []string{"127.0.0.1:1"}, Source: document(certtest.Encode(t, certtest.Document(t, "checkout"))), Upstreams: []mesh.Upstream{},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		state.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	snap, err := state.Ready(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const freeze = 30 * time.Minute
	at := clock.At(snap.NotAfter().Add(-time.Hour), time.Hour)
	now := clock.At(at.Wall().Add(freeze), at.Mono()+freeze)
	got := map[string][]float64{}
	for _, m := range (&metrics{state: state}).values(totals{tls: tlsstate.Stats{RefreshAge: freeze + time.Minute}}, at, now) {
		got[m.Name] = m.Values
	}
	if v := got["LeafLifeLeftSeconds"]; len(v) != 1 || v[0] != 3600 {
		t.Errorf("the leaf's life: %v, want an hour", v)
	}
	if v := got["RefreshAgeSeconds"]; len(v) != 1 || v[0] != 60 {
		t.Errorf("the refresh's age: %v, want a minute", v)
	}
}

// document is a store that holds one.
type document []byte

func (d document) Fetch(context.Context) ([]byte, error) { return d, nil }

// R14: a thaw is noticed before anything is used, and a read of the store that was under way in the freeze begins again: its
// answer would be waited for until its timeout.
func TestAThawThatTheWatchNoticesStartsTheRefreshAgain(t *testing.T) {
	t.Parallel()
	asked := make(chan time.Time, 100)
	store := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- time.Now()
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not see the connection's end
		<-r.Context().Done()
	}))
	defer store.Close()
	environ := []string{
		"AWS_LAMBDA_RUNTIME_API=127.0.0.1:1", "AWS_LAMBDA_FUNCTION_NAME=fn", "AWS_REGION=eu-central-1",
		"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=none", "AWS_ENDPOINT_URL_SSM=" + store.URL,
		"CONSUL_MESH_GATEWAY_URI=127.0.0.1:1", "CONSUL_EXTENSION_DATA_PREFIX=/mesh", "CONSUL_SERVICE_UPSTREAMS=web:1234",
	}
	cfg, err := extensionenv.Parse(environ)
	if err != nil {
		t.Fatal(err)
	}
	var skew clocktest.Skew
	e := &extension{cfg: &cfg, log: slog.New(slog.DiscardHandler), proxy: proxy.New(proxy.Config{})}
	var looks atomic.Int32
	e.watch.Clock = func() clock.Instant {
		looks.Add(1)
		return skew.Now()
	}
	if err := e.serve(environ); err != nil {
		t.Fatal(err)
	}
	defer func() {
		e.stop()
		<-e.served
		e.state.Close()
	}()
	<-asked
	waittest.Until(t, "the watch to have begun", func() bool { return looks.Load() > 1 })
	frozen := time.Now()
	skew.JumpWall(time.Minute)
	if again := (<-asked).Sub(frozen); again > 1500*time.Millisecond { // of the 2 s that an answer may take
		t.Errorf("the store was asked again after %v, want at the next tick of %v", again, clock.Interval)
	}
}
