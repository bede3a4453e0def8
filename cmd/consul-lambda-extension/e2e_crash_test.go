// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// R18: the dump of all goroutines with which a crash ends, here by SIGQUIT in the middle of handshakes, refreshes and traffic, has
// no secret in it. It goes to the function's log like every other line; what the world looks for is in [lab.World.Leaks].
func TestACrashDumpUnderLoadHasNoSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	box, err := w.ColdStart(t.Context(), function(w, env{
		"GOTRACEBACK": "system", "LOG_LEVEL": "trace", "CONSUL_REFRESH_FREQUENCY": "1s", "CONSUL_EXTENSION_TLS_RESUMPTION": "false",
	}))
	ok(t, err)
	t.Cleanup(box.Kill)
	works(t, w)

	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", w.Addr(lab.Echo))
				if err != nil {
					continue // it was refused: the extension has crashed
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				_, _ = c.Write(bytes.Repeat([]byte("x"), 100_000))
				_, _ = io.CopyN(io.Discard, c, 100_000)
				_ = c.Close()
			}
		})
	}
	busy := w.Sidecar(lab.Echo)
	before := busy.Stats().Handshakes
	waittest.Until(t, "some load", func() bool { return busy.Stats().Handshakes > before+50 })
	storeLeaf(t, w, 0)
	awaitGeneration(t, box, 2)
	ok(t, syscall.Kill(box.ExtensionPID(lab.ExtensionName), syscall.SIGQUIT))
	<-box.Died()
	close(stop)
	load.Wait()
	box.Kill()

	dumped := 0
	for _, l := range box.Logs() {
		if l.Source == lab.ExtensionName && l.Stderr && isGoroutine(l) {
			dumped++
		}
	}
	if dumped < 10 {
		t.Errorf("the dump has %d goroutines: it shows little\n%s", dumped, text(box.Logs()))
	}
	t.Logf("%d goroutines were dumped, in %d lines", dumped, len(box.Logs()))
	ok(t, w.Leaks())
}

func isGoroutine(l lambdasim.Line) bool { return strings.HasPrefix(l.Text, "goroutine ") }
