// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// R1: a chain that was good once ends with the first of its certificates to expire, and that need not be the leaf.
func TestRememberedChainDoesNotOutliveItsRoot(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	forBothVersions(t, func(t *testing.T, version uint16) {
		ca := certtest.NewCA(t) // its root lives 10 years
		long := meshsim.LeafOptions{NotAfter: time.Now().Add(20 * year)}
		leaf, err := ca.Issue(id(t, ca, "web"), long)
		if err != nil {
			t.Fatal(err)
		}
		cfg := serverConfig(leaf)
		cfg.MinVersion, cfg.MaxVersion = version, version
		w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"), long)), tlsstate.Config{Gateways: []string{destination(t, cfg)}})
		w.dial(t, 0)
		w.skew.JumpWall(11 * year)
		if err := w.refused(t, 0); !isInvalid(x509.Expired)(err) {
			t.Errorf("a year after the root expired: %v", err)
		}
	})
}

// R12: a panic while a name is looked up costs the dials that wait for it, and not the function.
func TestAPanicOfTheResolverIsSurvived(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	_, port, err := net.SplitHostPort(destination(t, serverConfig(ca.Leaf(t, id(t, ca, "web")))))
	if err != nil {
		t.Fatal(err)
	}
	resolver := new(brokenResolver)
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{
		Gateways: []string{net.JoinHostPort("gateway.test", port)},
		Resolver: resolver,
	})
	w.ready(t)
	if err := w.refused(t, 0); !strings.Contains(err.Error(), "panic") {
		t.Errorf("the dial does not say why: %v", err)
	}
	resolver.mended.Store(true)
	w.dial(t, 0)
}

// brokenResolver panics until it was mended, and then answers 127.0.0.1.
type brokenResolver struct{ mended atomic.Bool }

func (r *brokenResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	if !r.mended.Load() {
		panic("a defect")
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}
