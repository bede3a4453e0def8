// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// R12: whatever becomes of the store and the document, the last good credentials serve, and the log warns.
func TestTheLastGoodCredentialsServe(t *testing.T) {
	t.Parallel()
	for name, strike := range map[string]func(*testing.T, *lab.World){
		"the parameter is gone":       func(_ *testing.T, w *lab.World) { w.Store.Delete(w.ParameterPath()) },
		"the store fails":             func(_ *testing.T, w *lab.World) { w.Store.FailAll("", ssmsim.InternalError()) },
		"the store throttles":         func(_ *testing.T, w *lab.World) { w.Store.FailAll("", ssmsim.Throttled()) },
		"the role lost its right":     func(_ *testing.T, w *lab.World) { w.Store.FailAll("", ssmsim.AccessDenied()) },
		"the store answers 404":       func(_ *testing.T, w *lab.World) { w.Store.FailAll("", ssmsim.Raw(404, "text/html", "<p>not here</p>")) },
		"the answer is cut":           func(_ *testing.T, w *lab.World) { w.Store.FailAll("", ssmsim.Truncate()) },
		"the document is garbage":     func(_ *testing.T, w *lab.World) { w.StoreText(`{"privateKeyPEM":7}`) },
		"the document is empty":       func(_ *testing.T, w *lab.World) { w.StoreText("{}") },
		"the leaf has expired":        storeFlawed(meshsim.Expired),
		"the key is another's":        storeFlawed(meshsim.MismatchedKey),
		"the leaf names two services": storeFlawed(meshsim.TwoURIs),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Config{})
			box := start(t, w, env{"CONSUL_REFRESH_FREQUENCY": "1s", "LOG_LEVEL": "trace", "CONSUL_EXTENSION_WARM_CONNECTIONS": "0"})
			before := greeting(t, w)
			strike(t, w)
			awaitLog(t, box, 1, `"refresh failed, the last good credentials stay in use"`)
			if after := greeting(t, w); after.Leaf != before.Leaf {
				t.Errorf("leaf %s is used, want still %s", after.Leaf, before.Leaf)
			}
			if err := box.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

func storeFlawed(flaw meshsim.Flaw) func(*testing.T, *lab.World) {
	return func(t *testing.T, w *lab.World) {
		t.Helper()
		_, err := w.StoreLeafWith(meshsim.LeafOptions{Flaw: flaw})
		ok(t, err)
	}
}

// R7, R2, R12: a stream of the function runs on through new leaves and a new root, and loses nothing; new connections
// show the new leaf; when the old root is dropped nothing that is needed is lost.
func TestCredentialsRotateUnderLiveConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{CA: meshsim.CAConfig{Intermediate: true}})
	box := start(t, w, env{"CONSUL_REFRESH_FREQUENCY": "1s"})
	type outcome struct {
		results []result
		err     error
	}
	done := make(chan outcome, 1)
	go func() {
		results, err := tryInvoke(t.Context(), box,
			call{TCP: w.Addr(lab.Echo), SendBytes: 20_000, DripMS: 4}, call{TCP: w.Addr(lab.Digest), SendBytes: 20_000, DripMS: 4})
		done <- outcome{results, err}
	}()
	quiet := connect(t, w, lab.Echo)
	roundTrip(t, quiet, "opened with the first leaf")
	for generation := 2; generation <= 4; generation++ {
		switch generation {
		case 3:
			ok(t, w.RotateRoot())
		case 4:
			w.Mesh.CA.Prune()
		}
		leaf := storeLeaf(t, w, 0)
		awaitGeneration(t, box, generation)
		if h := greeting(t, w); h.Leaf != leaf.Serial() {
			t.Errorf("generation %d: a new connection shows leaf %s, want %s", generation, h.Leaf, leaf.Serial())
		}
		roundTrip(t, quiet, "still here")
	}
	o := await(t, "the function's streams", done)
	ok(t, o.err)
	if r := o.results[0]; r.Error != "" || r.SentBytes != 20_000 || r.SHA256 != r.SentSHA256 {
		t.Errorf("the echoed stream: %+v", r)
	}
	if r := o.results[1]; r.Error != "" || r.SentBytes != 20_000 || r.Body != r.SentSHA256 {
		t.Errorf("the stream answered at its end: %+v", r)
	}
}

// R14: frozen, by SIGSTOP, for longer than the leaf lives; the store has a new one. The first call after the thaw works,
// and shows the new leaf. So does a connection that was made while everything stood still.
func TestTheFirstCallAfterAFreezeLongerThanTheLeafsLifeSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	old := storeLeaf(t, w, 3*time.Second)
	box := start(t, w, nil)
	if h := greeting(t, w); h.Leaf != old.Serial() {
		t.Fatalf("leaf %s is shown, want %s", h.Leaf, old.Serial())
	}
	ok(t, box.Freeze(t.Context()))
	fresh := storeLeaf(t, w, time.Hour)
	until(t, old.Certificate.Leaf.NotAfter.Add(300*time.Millisecond))
	waiting := connect(t, w, lab.Greeter)
	r := invoke(t, box, call{TCP: w.Addr(lab.Greeter)}, call{HTTP: "http://" + w.Addr(lab.Web) + "/"})
	for i := range r {
		if r[i].Error != "" || !strings.Contains(r[i].Body, fresh.Serial()) {
			t.Errorf("the first calls after the thaw: %+v, want leaf %s", r[i], fresh.Serial())
		}
	}
	if h, err := tryGreeting(waiting); err != nil || h.Leaf != fresh.Serial() {
		t.Errorf("the connection from within the freeze: %+v, %v, want leaf %s", h, err, fresh.Serial())
	}
	if n := count(box.Logs(), `"connection failed"`); n > 0 {
		t.Errorf("%d failures were logged", n)
	}
}

// R14, R15: a short freeze ends nothing that is well, and a spare connection that died in it is not handed out.
func TestAFreezeEndsNothingThatIsWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, nil)
	open := connect(t, w, lab.Echo)
	roundTrip(t, open, "before")
	settled(t, w)
	ok(t, box.Freeze(t.Context()))
	until(t, time.Now().Add(1200*time.Millisecond))                                   // more than what counts as a freeze
	left := w.Mesh.Gateway.Stats().Open - w.Sidecar(lab.Greeter).Drop(meshsim.EndRST) // the spares
	waittest.Until(t, "the gateway to pass the resets on", func() bool { return w.Mesh.Gateway.Stats().Open <= left })
	ok(t, box.Thaw(t.Context()))
	for range 3 {
		works(t, w)
	}
	roundTrip(t, open, "after")
}

// settled waits until nothing is being dialled.
func settled(t testing.TB, w *lab.World) {
	t.Helper()
	last, since := int64(-1), time.Now()
	waittest.Until(t, "quiet", func() bool {
		if n := w.Mesh.Gateway.Stats().Accepted; n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 100*time.Millisecond
	})
}

// R19, as far as processes can show it: the path has forgotten a connection in a freeze, and acknowledges nothing any
// more. What the function sends then ends in a reset within 10 s, and not in its own time-out.
func TestAPathThatForgotAConnectionEndsIt(t *testing.T) {
	w := newWorld(t, lab.Config{})
	box := start(t, w, nil)
	c := connect(t, w, lab.Echo)
	ok(t, c.SetDeadline(time.Now().Add(2*patience)))
	roundTrip(t, c, "before the freeze")
	settled(t, w)
	ok(t, box.Freeze(t.Context()))
	if n := w.Mesh.Gateway.Forget(); n == 0 {
		t.Fatal("there was nothing to forget")
	}
	ok(t, box.Thaw(t.Context()))
	ended := meanwhile(func() error {
		if _, err := io.WriteString(c, "after the thaw"); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, c)
		return err
	})
	t.Parallel()
	end := await(t, "the connection's end", ended)
	if !errors.Is(end.err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, want a reset", end.err)
	}
	if end.after < 8*time.Second || end.after > 20*time.Second { // the kernel would try for a quarter of an hour
		t.Errorf("the reset took %v, want about 10 s", end.after)
	}
	awaitLog(t, box, 1, `"cause":"unacknowledged"`)
}

// soon is before a drain gives up by itself, 1.8 s after it began.
const soon = 1700 * time.Millisecond

// R16: what the function sent just before its sandbox ends arrives, even what the extension had no time to read: it was
// frozen, or had not been scheduled. Here the function is gone already, as Lambda ends it first.
func TestWhatTheFunctionSentJustBeforeTheEndArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, nil)
	stream := make([]byte, 200_000)
	_, _ = rand.Read(stream)

	early := connect(t, w, lab.Collector)
	_, err := early.Write(stream[:1000])
	ok(t, err)
	greeted := make([]byte, 6)
	_, err = io.ReadFull(early, greeted)
	ok(t, err)
	ok(t, box.Freeze(t.Context()))
	_, err = early.Write(stream[1000:])
	ok(t, err)
	ok(t, early.Close())
	late := connect(t, w, lab.Collector) // accepted by nobody but the kernel
	_, err = late.Write(stream[:70_000])
	ok(t, err)
	ok(t, late.Close())
	report, exit := shutDown(t, box)

	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got, err := w.Collected.Next(ctx)
		cancel()
		if want := sha256.Sum256(stream[:min(got.Bytes, int64(len(stream)))]); err != nil || got.Err != nil || got.SHA256 != want || got.Bytes != 70_000 && got.Bytes != 200_000 {
			t.Errorf("%d bytes arrived, %v, %v", got.Bytes, got.Err, err)
		}
	}
	if exit.Code != 0 || exit.Killed || report.Duration > soon {
		t.Errorf("the extension ended with %+v after %v, want exit 0 and well before the deadline", exit, report.Duration)
	}
}

// R16: what was sent and waits in the kernels' buffers is no silence, even when for a while nothing of it moves: a service
// that is slower than the function takes it in lumps.
func TestWhatASlowServiceHasNotTakenYetArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, nil)
	stream := make([]byte, 8<<20) // more than the buffers on the way take
	_, _ = rand.Read(stream)
	c := connect(t, w, lab.Collector)
	if got, err := io.ReadAll(c); err != nil || string(got) != "go on\n" {
		t.Fatalf("the greeting is %q, %v", got, err)
	}
	settled(t, w)
	w.Mesh.Gateway.SetFaultsOpen(meshsim.FaultPlan{Up: meshsim.ByteFault{Kind: meshsim.StallBytes}})
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(stream)
		sent <- errors.Join(err, c.Close())
	}()
	moves := time.AfterFunc(500*time.Millisecond, func() { w.Mesh.Gateway.SetFaultsOpen(meshsim.FaultPlan{}) })
	defer moves.Stop()
	_, exit := shutDown(t, box)
	ok(t, await(t, "the end of the stream", sent))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := w.Collected.Next(ctx)
	if err != nil || got.Err != nil || got.SHA256 != sha256.Sum256(stream) {
		t.Errorf("%d of %d bytes arrived, %v, %v", got.Bytes, len(stream), got.Err, err)
	}
	if exit.Code != 0 || exit.Killed {
		t.Errorf("the extension ended with %+v", exit)
	}
}

// R16: a stream that moves is let go on, until 200 ms before the deadline; then the exit code is 0 all the same.
func TestADrainLastsWhileBytesMoveAndNoLonger(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	var left time.Duration
	for range 3 { // a machine that pauses for 150 ms stops the bytes, or the exit
		if left = drainStream(t, w); left > 50*time.Millisecond && left < 400*time.Millisecond {
			return
		}
	}
	t.Errorf("it ended %v before the deadline, and not better in three attempts; want 200 ms", left)
}

// drainStream ends a sandbox in the middle of a stream, and returns how long before its deadline the extension ended.
func drainStream(t *testing.T, w *lab.World) time.Duration {
	t.Helper()
	box := start(t, w, nil)
	before := w.Collected.Bytes()
	c := connect(t, w, lab.Collector)
	ended := make(chan error, 1)
	go func() {
		buf := make([]byte, 4<<10)
		for {
			if _, err := c.Write(buf); err != nil {
				ended <- err
				return
			}
			time.Sleep(5 * time.Millisecond) // a stream of a function, not of a disk
		}
	}()
	waittest.Until(t, "bytes", func() bool { return w.Collected.Bytes() > before })
	report, exit := shutDown(t, box)
	if exit.Code != 0 || exit.Killed {
		t.Errorf("the extension ended with %+v, want exit 0", exit)
	}
	_ = await(t, "the stream's end", ended) // with whatever error: nobody takes any more
	return report.Deadline.Sub(exit.Time)
}

// R16: silent connections do not delay the end. SIGTERM, which some platforms send, means the same.
func TestSilentConnectionsDoNotDelayTheEnd(t *testing.T) {
	t.Parallel()
	for _, signalled := range []bool{false, true} {
		w := newWorld(t, lab.Config{})
		box := start(t, w, nil)
		open := []net.Conn{connect(t, w, lab.Echo), connect(t, w, lab.Echo), connect(t, w, lab.Digest)}
		roundTrip(t, open[0], "hello")
		if signalled {
			terminate(t, box)
		}
		report, exit := shutDown(t, box)
		if exit.Code != 0 || exit.Killed || report.Duration > soon {
			t.Errorf("signalled %v: the extension ended with %+v after %v", signalled, exit, report.Duration)
		}
		if count(box.Logs(), `"stopped"`) != 1 {
			t.Error("the log does not tell the end")
		}
	}
}

// R18: at the most talkative level, with everything failing, and in documents that are quoted when they cannot be read.
// That no secret is logged is looked at after every test: see checkLogs.
func TestNoSecretIsLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box := start(t, w, env{"LOG_LEVEL": "trace", "TRACE_ENABLED": "true", "CONSUL_REFRESH_FREQUENCY": "1s", "CONSUL_EXTENSION_WARM_CONNECTIONS": "0"})
	works(t, w)
	doc, found := w.Store.Get(w.ParameterPath())
	if !found || len(w.Secrets()) < 10 {
		t.Fatal("there is nothing to look for")
	}
	for i, broken := range []string{
		doc.Value[:len(doc.Value)/2],
		strings.Replace(doc.Value, `"privateKeyPEM":"`, `"privateKeyPEM":"x`, 1),
		strings.Replace(doc.Value, `{"privateKeyPEM":`, `{"privateKeyPEM":{"nested":1},"other":`, 1),
		strings.Replace(doc.Value, `"trustDomain":"`, `"trustDomain":"other-`, 1),
	} {
		w.StoreText(broken)
		awaitLog(t, box, i+1, `"refresh failed`)
	}
	w.Mesh.Gateway.SetFaults(meshsim.FaultPlan{Accept: meshsim.AcceptReset})
	refused(t, w, lab.Digest)
	if _, exit := shutDown(t, box); exit.Code != 0 {
		t.Errorf("exit code %d", exit.Code)
	}
}
