// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"encoding/json"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// R14, R15: frozen for real, by SIGSTOP, for longer than the leaf lives (3 s) and a spare connection may be idle (1 s), with
// every connection of the process gone meanwhile: to the gateway, by a reset or without a word, and to the store. A new
// leaf is stored before the thaw. The first invocation after it succeeds, and its call takes, in the median, no longer than
// 3 ms more than the first call of a sandbox that was just started without spare connections. The function takes the time;
// it has run before in both cases.
//
// The sandboxes are frozen together, and thawed one after the other, each beside a start of the other kind.
func TestTheFirstCallAfterARealFreezeCostsADial(t *testing.T) {
	const boxes, frozen = 6, 3100 * time.Millisecond
	rounds := 2
	if testing.Short() {
		rounds = 1
	}
	plain := listenPlainly(t)
	other := newWorld(t, lab.Config{})
	all := make([]*frozenBox, boxes)
	for i := range all {
		all[i] = newFrozenBox(t, i)
	}
	compare(t, func() (cold, thawed []time.Duration) {
		for range rounds {
			var began time.Time
			for _, b := range all {
				b.freeze(t)
				began = time.Now()
			}
			until(t, began.Add(frozen))
			for _, b := range all {
				box := start(t, other, env{"CONSUL_EXTENSION_WARM_CONNECTIONS": "0"})
				invoke(t, box, call{TCP: plain})
				cold = append(cold, timed(t, box, other, ""))
				box.Kill()
				leaf := storeLeaf(t, b.world, 3*time.Second)
				thawed = append(thawed, timed(t, b.box, b.world, leaf.Serial()))
			}
		}
		return cold, thawed
	})
	for _, b := range all {
		if n := count(b.box.Logs(), `"connection failed"`); n > 0 {
			t.Errorf("%d failures were logged", n)
		}
	}
}

// timed invokes the function, which calls Greeter, and returns how long that took it. Which leaf was shown is checked if
// one is given.
func timed(t testing.TB, box *lambdasim.Sandbox, w *lab.World, leaf string) time.Duration {
	t.Helper()
	r := invoke(t, box, call{TCP: w.Addr(lab.Greeter)})[0]
	var h lab.Hello
	if err := json.Unmarshal([]byte(r.Body), &h); err != nil || r.Error != "" || h.Caller != w.FunctionID().String() || leaf != "" && h.Leaf != leaf {
		t.Fatalf("%+v, want leaf %q", r, leaf)
	}
	return time.Duration(r.Milliseconds * float64(time.Millisecond))
}

// frozenBox is a sandbox with a world of its own.
type frozenBox struct {
	world  *lab.World
	box    *lambdasim.Sandbox
	silent bool // the gateway forgets its connections, and resets none
}

func newFrozenBox(t testing.TB, i int) *frozenBox {
	t.Helper()
	b := &frozenBox{world: newWorld(t, lab.Config{}), silent: i%2 == 0}
	storeLeaf(t, b.world, 3*time.Second)
	b.box = start(t, b.world, env{"CONSUL_EXTENSION_WARM_MAX_IDLE": "1s"})
	timed(t, b.box, b.world, "")
	return b
}

// freeze stops the sandbox, with a leaf that expires meanwhile, and ends what it is connected to. The leaf of the round before may have
// expired already, on a slow machine.
func (b *frozenBox) freeze(t testing.TB) {
	t.Helper()
	gateway := b.world.Mesh.Gateway
	storeLeaf(t, b.world, 3*time.Second)
	timed(t, b.box, b.world, "")
	waittest.Until(t, "a spare connection", func() bool { return gateway.Stats().Open > 0 })
	ok(t, b.box.Freeze(t.Context()))
	if b.silent {
		gateway.Forget()
	} else {
		gateway.Kill(-1, 0, meshsim.EndRST)
	}
	addr := b.world.Store.URL()[len("http://"):]
	b.world.Store.Close()
	store, err := ssmsim.Start(ssmsim.Config{Addr: addr})
	ok(t, err)
	b.world.Store = store // the leaf comes before the thaw
}

// listenPlainly returns an address at which connections end at once, for calls outside the mesh.
func listenPlainly(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = ln.Close(); accepting.Wait() })
	return ln.Addr().String()
}
