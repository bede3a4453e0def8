// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The whole harness, in a few seconds: real processes, every kind of measurement, everything ended.
func TestAQuickRunMeasuresTheBaseline(t *testing.T) {
	if !supported {
		t.Skip(errUnsupported)
	}
	binary := buildBaseline(t)
	var said bytes.Buffer
	result, err := Run(t.Context(), Config{
		Extension: binary, Baseline: binary, Quick: true, BulkBytes: 4 << 20, Progress: &said,
		Systems: []string{Baseline, Direct},
		Only:    []string{"connect", "pingpong", "down-1", "up-8", "parallel-64", "memory-load", "coldstart"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Failures) > 0 {
		t.Errorf("failed: %q", result.Failures)
	}
	for _, want := range []Cell{
		{Row: "connect-0ms", System: Baseline, Metric: p50}, {Row: "connect-0ms", System: Direct, Metric: p50},
		{Row: "connect-0ms", System: Baseline, Metric: cpuPerUnit}, {Row: "connect-loop", System: Baseline, Metric: rate},
		{Row: "pingpong", System: Baseline, Metric: p99}, {Row: "down-1", System: Baseline, Metric: cpuPerGB},
		{Row: "up-8", System: Direct, Metric: throughput}, {Row: "parallel-64", System: Baseline, Metric: rate},
		{Row: "memory-load", System: Baseline, Metric: afterBulk}, {Row: "coldstart", System: Baseline, Metric: toFirstByte},
		{Row: programRow, System: Baseline, Metric: programSize},
	} {
		if c, ok := result.cell(want.Row, want.System, want.Metric); !ok || c.Value <= 0 {
			t.Errorf("%s, %s, %s: %v, %t", want.Row, want.System, want.Metric, c.Value, ok)
		}
	}
	// Two round trips of 20 ms for the handshake and the answer: the TCP handshake is not delayed.
	for _, system := range []string{Baseline, Direct} {
		if c, _ := result.cell("connect-20ms", system, p50); c.Value < 40 {
			t.Errorf("%s: a new connection at 20 ms RTT took %v ms", system, c.Value)
		}
	}
	if c, _ := result.cell("coldstart", Baseline, toFirstByte); c.Value < 15 {
		t.Errorf("the first byte came after %v ms, the store answers after 15", c.Value)
	}
	if lines := strings.Count(said.String(), "\n"); lines < 8 {
		t.Errorf("%d lines of progress:\n%s", lines, &said)
	}
	if err := result.WriteMarkdown(io.Discard, "."); err != nil {
		t.Error(err)
	}
}

// A system that does not work is told, once, and the rest goes on.
func TestASystemThatDoesNotStartIsTold(t *testing.T) {
	if !supported {
		t.Skip(errUnsupported)
	}
	broken, err := exec.LookPath("false")
	if err != nil {
		t.Skip(err)
	}
	result, err := Run(t.Context(), Config{
		Extension: broken, Baseline: broken, Quick: true,
		Systems: []string{Ours, Direct}, Only: []string{"connect-0ms", "connect-loop"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Failures) != 1 || !strings.Contains(result.Failures[0], "exit status 1") {
		t.Errorf("failures are %q", result.Failures)
	}
	if _, ok := result.cell("connect-loop", Direct, rate); !ok {
		t.Error("the other system was not measured")
	}
}

func TestARunEndsWithItsContext(t *testing.T) {
	if !supported {
		t.Skip(errUnsupported)
	}
	binary := buildBaseline(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Run(ctx, Config{Extension: binary, Baseline: binary, Systems: []string{Baseline}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v to end", took)
	}
}

func TestWhatDoesNotExistIsRefusedBeforeAnythingRuns(t *testing.T) {
	if !supported {
		t.Skip(errUnsupported)
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Systems: []string{"squid"}}, `no system is called "squid"`},
		{Config{Systems: []string{Direct}, Only: []string{"latency"}}, `no row begins with "latency"`},
		{Config{Systems: []string{Ours}, Extension: "nowhere"}, "no program"},
		{Config{Systems: []string{Direct}, Peers: []Peer{{Ours, "x"}}}, "two systems are called"},
	} {
		if _, err := Run(t.Context(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

// A delayed connection is late by half of the round trip time in each direction, loses nothing, and ends late too.
func TestTheServerAddsTheRoundTripTime(t *testing.T) {
	const rtt = 20 * time.Millisecond
	for _, secure := range []bool{false, true} {
		p, err := newPKI()
		if err != nil {
			t.Fatal(err)
		}
		var cfg, client *tls.Config
		if secure {
			cfg, client = p.server(), p.client()
		}
		s, err := newServer(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.close)
		s.setRTT(rtt)
		in := &instance{system: &system{}, server: s, address: s.addr(), direct: client}
		took, err := in.newConnection(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		trips := time.Duration(1)
		if secure {
			trips = 2
		}
		if took < trips*rtt {
			t.Errorf("secure=%t: the first answer came after %v, want %d round trips", secure, took, trips)
		}
		if err := in.bulk(t.Context(), opDown, 3<<20, 2); err != nil {
			t.Error(err)
		}
		if err := in.bulk(t.Context(), opUp, 3<<20, 2); err != nil {
			t.Error(err)
		}
	}
}

func TestADelayedStreamKeepsItsOrderAndItsEnd(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	raw, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	const late = 5 * time.Millisecond
	c, err := delay(raw, late)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, s := range []string{"one ", "two ", "three"} {
		if _, err := io.WriteString(c, s); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Close()
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	got, err := io.ReadAll(client)
	if string(got) != "one two three" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if took := time.Since(began); took < late {
		t.Errorf("the end came after %v", took)
	}
	<-c.gone
}
