// SPDX-License-Identifier: MPL-2.0

//go:build linux

package main_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// R10: while the credentials are read, the spares are already connected to the gateway, and these connections are used.
func TestAStartConnectsToTheGatewayWhileTheStoreIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{})
	w.Store.FailAll("GetParameter", ssmsim.Hang())
	want := int64(strings.Count(w.Function().Env["CONSUL_SERVICE_UPSTREAMS"], ",") + 1)
	accepted := func() int64 { return w.Mesh.Gateway.Stats().Accepted }

	ext := startAlone(t, w)
	close(ext.proceed)
	waittest.Until(t, "a connection for each upstream", func() bool { return accepted() == want })
	w.Store.Heal()
	w.Store.Release()
	await(t, "Next", ext.ready)
	// The spare of one upstream is ended by an intention, and replaced once.
	if got := accepted(); got > want+1 {
		t.Errorf("the gateway has accepted %d connections, want the first %d used", got, want)
	}
	ok(t, ext.cmd.Process.Signal(syscall.SIGTERM))
	ok(t, ext.cmd.Wait())
}
