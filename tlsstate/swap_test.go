// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// R2: a swap ends the spares of the state before it and opens others, whether or not anyone dials.
func TestASwapEndsTheSparesThatNobodyAsksFor(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{Refresh: 100 * time.Millisecond, Spares: []int{3}})
	w.until(t, "three spares", func() bool { return w.sidecar.Stats().Open == 3 })
	before := w.Stats().Handshakes
	w.newDocument(t)
	w.until(t, "their replacements", func() bool { return w.Stats().Handshakes >= before+3 })
	w.until(t, "the end of those before", func() bool { return w.sidecar.Stats().Open == 3 })
}

// After a swap and after a thaw the function's own handshake, which it may be waiting for, comes before those of the spares
// of all upstreams: these begin refillAfter later. Now and then a busy machine lets that time pass before this test looks.
func TestReplacingTheSparesLeavesTheFunctionAHeadStart(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, *spareWorld){
		"swap": func(t *testing.T, w *spareWorld) {
			t.Helper()
			w.newDocument(t)
			document, _ := w.source.Fetch(t.Context())
			if err := w.Update(document); err != nil {
				t.Fatal(err)
			}
		},
		"thaw": func(_ *testing.T, w *spareWorld) {
			w.skew.Jump(2 * time.Minute)
			w.Thawed(2 * time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
			for range 20 {
				change(t, w)
				begun := w.IsDialling(0)
				c := w.dial(t) // else no more spares are opened after two that nobody used
				greet(t, c)
				_ = c.Close()
				w.settle(t)
				if !begun {
					return
				}
			}
			t.Error("a spare was always dialled at once")
		})
	}
}

// R15: from the moment that a snapshot is in use no spare of the one before is handed out, although it may not have been
// closed yet.
func TestASpareOfTheSnapshotBeforeIsNotHandedOutWhileASwapIsUnderWay(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
	old := w.Snapshot().Generation()
	if w.HasSpareFor(0, old+1) {
		t.Fatal("it would be handed out to a dial that has loaded the next snapshot")
	}
	w.until(t, "the spare of the snapshot in use, which may be reading a session ticket", func() bool { return w.HasSpareFor(0, old) })
}

// R2, R15: a swap while a spare is being dialled leaves that one to nobody: not to a dial that waits for it, and not as a
// spare.
func TestASpareThatIsDialledDuringASwapIsNotUsed(t *testing.T) {
	for name, join := range map[string]bool{"a dial waits for it": true, "nobody waits for it": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
			for range 3 {
				w.mesh.Gateway.SetFaults(meshsim.FaultPlan{Delay: 30 * time.Millisecond}) // of new connections
				w.until(t, "the refill under way", func() bool {
					a := w.takeSpare(t)
					t.Cleanup(func() { _ = a.Close() })
					w.until(t, "the refill", func() bool { return w.IsDialling(0) || w.HasSpare(0) })
					return w.IsDialling(0) // on a machine that pauses it may be over
				})
				old := w.Snapshot().Generation()
				w.newDocument(t)
				document, _ := w.source.Fetch(t.Context())
				if err := w.Update(document); err != nil { // the schedule is minutes from its next read
					t.Fatal(err)
				}
				if !join {
					w.until(t, "the refill's end", func() bool { return !w.IsDialling(0) && w.HasSpare(0) })
				}
				w.mesh.Gateway.SetFaults(meshsim.FaultPlan{})
				dial := w.dial
				if !join {
					dial = w.takeSpare
				}
				b := dial(t)
				if b.Generation() != old+1 {
					t.Errorf("a connection of generation %d was handed out after a swap to %d", b.Generation(), old+1)
				}
				_ = b.Close()
				w.settle(t)
			}
		})
	}
}

// R12: a panic while a spare is dialled costs the spare and a line of the log, and not the function.
func TestAPanicWhileASpareIsDialledIsSurvived(t *testing.T) {
	t.Parallel()
	var log waittest.Log
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{Refresh: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	a := w.dial(t)
	defer a.Close()
	w.until(t, "the spare's replacement", func() bool { return w.HasSpare(0) && !w.IsDialling(0) })
	panics, mend := w.BreakSpares(0)
	b := w.takeSpare(t)
	greet(t, b) // and the refill panics
	_ = b.Close()
	w.until(t, "the panics", func() bool { return panics.Load() > 0 && !w.HasSpare(0) })
	log.Await(t, "a spare connection could not be dialled")
	mend()
	c := w.dial(t)
	greet(t, c)
	_ = c.Close()
	w.settle(t)
}

// R19: no keepalive traffic, which a thaw would turn into false alarms.
func TestConnectionsSendNoKeepalives(t *testing.T) {
	t.Parallel()
	w := newSpareWorld(t, meshsim.Echo, tlsstate.Config{})
	c := w.dial(t)
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var on int
	if cerr := raw.Control(func(fd uintptr) { on, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if on != 0 {
		t.Error("keepalives are on")
	}
}
