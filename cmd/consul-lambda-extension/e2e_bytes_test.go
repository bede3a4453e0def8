// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// roundTrip sends s to an echo and wants it back.
func roundTrip(t testing.TB, c net.Conn, s string) {
	t.Helper()
	_, err := io.WriteString(c, s)
	ok(t, err)
	got := make([]byte, len(s))
	if _, err = io.ReadFull(c, got); err != nil || string(got) != s {
		t.Fatalf("the echo of %q is %q, %v", s, got, err)
	}
}

// asked makes a service wait for the function's first byte. A reset that comes before the function's connect has returned
// is an error of connect, and what was sent before it is lost with the socket.
func asked(h meshsim.Handler) meshsim.Handler {
	return func(c meshsim.Conn) {
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			h(c)
		}
	}
}

func ask(t testing.TB, w *lab.World, service string) net.Conn {
	t.Helper()
	c := connect(t, w, service)
	_, err := io.WriteString(c, "?")
	ok(t, err)
	return c
}

// R5: the bytes before a cut arrive, then a reset; never a clean end, in whatever way the stream was cut.
func TestACutStreamReachesTheFunctionAsAResetAfterItsBytes(t *testing.T) {
	t.Parallel()
	const sent = 300_000
	w := newWorld(t, lab.Config{})
	addService(t, w, "cut-between-records", 7101, meshsim.SidecarConfig{Handler: meshsim.Truncate(asked(meshsim.Source(1<<20)), sent, meshsim.EndFIN)})
	addService(t, w, "reset", 7102, meshsim.SidecarConfig{Handler: meshsim.Truncate(asked(meshsim.Source(1<<20)), sent, meshsim.EndRST)})
	addService(t, w, "whole", 7103, meshsim.SidecarConfig{Handler: asked(meshsim.Source(sent))})
	start(t, w, env{"CONSUL_EXTENSION_WARM_CONNECTIONS": "0"})
	want, err := io.ReadAll(meshsim.Pattern(1 << 20))
	ok(t, err)

	if got := wantReset(t, ask(t, w, "cut-between-records")); !bytes.Equal(got, want[:sent]) {
		t.Errorf("%d bytes arrived before the cut, want the first %d", len(got), sent)
	}
	if got := wantReset(t, ask(t, w, "reset")); !bytes.HasPrefix(want, got) {
		t.Errorf("%d bytes arrived before the reset, and not those that were sent", len(got))
	}
	w.Mesh.Gateway.SetFaults(meshsim.FaultPlan{Down: meshsim.ByteFault{Kind: meshsim.CutBytes, After: 100_000}})
	if got := wantReset(t, ask(t, w, "whole")); len(got) < 60_000 || !bytes.HasPrefix(want, got) {
		t.Errorf("%d bytes arrived before the cut in a record, want most of 100,000", len(got))
	}
	w.Mesh.Gateway.SetFaults(meshsim.FaultPlan{Down: meshsim.ByteFault{Kind: meshsim.GarbageBytes, After: 100_000}})
	if got := wantReset(t, ask(t, w, "whole")); !bytes.HasPrefix(want, got) {
		t.Error("garbage reached the function")
	}
	w.Mesh.Gateway.SetFaults(meshsim.FaultPlan{})
	c := ask(t, w, "whole")
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want[:sent]) {
		t.Errorf("%d of %d bytes arrived of the stream that was not cut, %v", len(got), sent, err)
	}
}

// R6: either side may end first, and the other goes on. The answer here begins after the function's end; the request
// there after the service's.
func TestAHalfCloseIsCarriedInBothDirections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	start(t, w, nil)
	request := make([]byte, 1<<20)
	_, _ = rand.Read(request)
	want := sha256.Sum256(request)

	c := connect(t, w, lab.Digest)
	_, err := c.Write(request)
	ok(t, err)
	ok(t, c.CloseWrite())
	if got, err := io.ReadAll(c); err != nil || string(got) != hex.EncodeToString(want[:]) {
		t.Errorf("the answer after the function's end is %q, %v", got, err)
	}

	c = connect(t, w, lab.Collector)
	if got, err := io.ReadAll(c); err != nil || string(got) != "go on\n" {
		t.Fatalf("the greeting is %q, %v", got, err)
	}
	_, err = c.Write(request)
	ok(t, err)
	ok(t, c.CloseWrite())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := w.Collected.Next(ctx)
	if err != nil || got.Err != nil || got.SHA256 != want {
		t.Errorf("after its end the service got %d bytes, %v, %v", got.Bytes, got.Err, err)
	}
}

// R7: through the real function, large and tiny writes, in parallel. HTTP connections are used again.
func TestTheFunctionsBytesArriveOnceAndInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, nil)
	calls := []call{
		{TCP: w.Addr(lab.Echo), SendBytes: 8 << 20},
		{TCP: w.Addr(lab.Echo), SendBytes: 8 << 20},
		{TCP: w.Addr(lab.Echo), SendBytes: 2000, DripMS: 1},
		{TCP: w.Addr(lab.Echo)},
		{TCP: w.Addr(lab.Digest), SendBytes: 3_000_001},
	}
	for i, r := range invoke(t, box, calls...) {
		answer := r.SHA256
		if calls[i].TCP == w.Addr(lab.Digest) {
			answer = r.Body
		}
		if r.Error != "" || r.SentBytes != calls[i].SendBytes || answer != r.SentSHA256 {
			t.Errorf("%+v: %+v", calls[i], r)
		}
	}
	for i := range 3 {
		r := invoke(t, box, call{HTTP: "http://" + w.Addr(lab.Web) + "/"})[0]
		var h lab.Hello
		if err := json.Unmarshal([]byte(r.Body), &h); err != nil || r.Status != 200 || h.Caller != w.FunctionID().String() || r.Reused != (i > 0) {
			t.Errorf("request %d: %+v", i, r)
		}
	}
}

// R8: the function says nothing until the service has spoken. A spare connection, on which it spoke long ago, too.
func TestAServerThatSpeaksFirstIsHeard(t *testing.T) {
	t.Parallel()
	for name, warm := range map[string]string{"dialled": "0", "spare": "2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Config{})
			addService(t, w, "banner", 7101, meshsim.SidecarConfig{Handler: meshsim.Banner("220 ready\r\n")})
			start(t, w, env{"CONSUL_EXTENSION_WARM_CONNECTIONS": warm})
			for range 5 {
				c := connect(t, w, "banner")
				banner := make([]byte, len("220 ready\r\n"))
				if _, err := io.ReadFull(c, banner); err != nil || string(banner) != "220 ready\r\n" {
					t.Fatalf("read %q, %v", banner, err)
				}
				roundTrip(t, c, "HELO")
				ok(t, c.CloseWrite())
				if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
					t.Errorf("then %q, %v", rest, err)
				}
			}
		})
	}
}

// R9: a mesh that cannot be reached is a reset, not a clean end and not a hang, and the log says why, once.
func TestAMeshThatCannotBeReachedIsAResetWithinTheDialTimeout(t *testing.T) {
	t.Parallel()
	const limit = 400 * time.Millisecond
	w := newWorld(t, lab.Config{})
	gateway := w.Mesh.Gateway
	box := start(t, w, env{"CONSUL_EXTENSION_DIAL_TIMEOUT": limit.String(), "CONSUL_EXTENSION_WARM_CONNECTIONS": "0"})
	for _, fault := range []struct {
		name, service string
		atOnce        bool
		strike, heal  func() error
	}{
		{"a port that refuses", lab.Echo, true,
			func() error { gateway.Refuse(); return nil }, func() error { return gateway.Reopen(t.Context()) }},
		{"packets that vanish", lab.Digest, false,
			func() error { return gateway.Unreachable(true) }, func() error { return gateway.Unreachable(false) }},
		{"a gateway that says nothing", lab.Web, false, accept(gateway, meshsim.AcceptSilent), accept(gateway, meshsim.AcceptNormally)},
		{"a gateway that resets", lab.Greeter, true, accept(gateway, meshsim.AcceptReset), accept(gateway, meshsim.AcceptNormally)},
	} {
		t.Run(fault.name, func(t *testing.T) {
			ok(t, fault.strike())
			for range 3 {
				begin := time.Now()
				refused(t, w, fault.service)
				if took := time.Since(begin); took >= 2*time.Second || !fault.atOnce && took < limit*9/10 { // 2 s is the default
					t.Errorf("the reset took %v, at most %v is allowed", took, limit)
				}
			}
			line := []string{`"connection failed"`, `"upstream":"` + fault.service + ":", `"cause":"dial"`}
			awaitLog(t, box, 1, line...)
			ok(t, fault.heal())
			heals(t, w)
			if n := count(box.Logs(), line...); n != 1 {
				t.Errorf("%d log lines of three failures, want 1", n)
			}
		})
	}
}

func accept(g *meshsim.Gateway, how meshsim.AcceptFault) func() error {
	return func() error {
		g.SetFaults(meshsim.FaultPlan{Accept: how})
		return nil
	}
}

// R9: whom an intention denies gets no empty answer: that could be taken for the service's own.
func TestADeniedFunctionSeesAReset(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]meshsim.DenyAt{"on connect": meshsim.DenyOnConnect, "on the first byte": meshsim.DenyOnFirstByte} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Config{})
			in := new(meshsim.Intentions)
			in.SetDefault(meshsim.Deny)
			addService(t, w, "secret", 7101, meshsim.SidecarConfig{Intentions: in, DenyAt: at})
			box := start(t, w, nil)
			for range 3 {
				refused(t, w, "secret")
			}
			awaitLog(t, box, 1, `"connection failed"`, `"upstream":"secret:7101"`, "intention")
			// An intention is judged at each connection: the next one is let in.
			in.SetDefault(meshsim.Allow)
			waittest.Until(t, "a connection that is allowed", func() bool {
				c, err := tryConnect(t, w, "secret")
				if err != nil {
					return false
				}
				got := make([]byte, 2)
				_, _ = io.WriteString(c, "hi")
				_, err = io.ReadFull(c, got)
				return err == nil && string(got) == "hi"
			})
		})
	}
}

// R1: the predecessor took any certificate of the mesh for any upstream. Here the route of one service leads to another.
func TestAnotherServicesCertificateIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, env{"CONSUL_EXTENSION_WARM_CONNECTIONS": "0"})
	echo, err := mesh.NewService(lab.Echo, "", "")
	ok(t, err)
	sni, err := mesh.ServiceSNI(echo, w.Mesh.CA.Datacenter(), w.Mesh.CA.TrustDomain())
	ok(t, err)
	w.Mesh.Routes.Set(sni.String(), w.Sidecar(lab.Digest).Addr())
	refused(t, w, lab.Echo)
	awaitLog(t, box, 1, `"upstream":"echo:7001"`, "/svc/digest", "/svc/echo")
	w.Mesh.Routes.Set(sni.String(), w.Sidecar(lab.Echo).Addr())
	roundTrip(t, connect(t, w, lab.Echo), "the right one")
}

// The predecessor put "dc1" into every server name.
func TestTheDatacenterIsThatOfTheLeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{CA: meshsim.CAConfig{Datacenter: "eu-west-9", Intermediate: true}})
	start(t, w, nil)
	works(t, w)
	if id := greeting(t, w).Caller; !strings.Contains(id, "/dc/eu-west-9/") {
		t.Errorf("called as %s", id)
	}
}

// The predecessor had one gateway. Here one of two is dead from the start; then the other one dies, and the first is back.
func TestASecondGatewayTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	second, err := w.Mesh.AddGateway()
	ok(t, err)
	w.Mesh.Gateway.Refuse()
	start(t, w, env{
		"CONSUL_MESH_GATEWAY_URI":           w.Mesh.Gateway.Addr() + "," + second.Addr(),
		"CONSUL_EXTENSION_WARM_CONNECTIONS": "0", "CONSUL_EXTENSION_DIAL_TIMEOUT": "1s",
	})
	for range 3 {
		works(t, w)
	}
	ok(t, w.Mesh.Gateway.Reopen(t.Context()))
	ok(t, second.Unreachable(true))
	// A gateway that has just failed is passed over for as long as another one is believed to be well.
	heals(t, w)
	for range 3 {
		works(t, w)
	}
}
