// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
)

// silence is a store and a name server that answer nobody, until they are told to stop.
type silence struct{ asked chan struct{} } // one for each look-up; room for all

func (silence) Fetch(ctx context.Context) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s silence) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	s.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// R12: whoever has waited for Run has waited for all that Run began. There are many names, so that all their look-ups do not happen
// to end first.
func TestRunEndsAfterTheLookUpsThatItBegan(t *testing.T) {
	t.Parallel()
	const names = 200
	nobody := silence{make(chan struct{}, names)}
	cfg := Config{Source: nobody, Resolver: nobody}
	for i := range names {
		cfg.Gateways = append(cfg.Gateways, fmt.Sprintf("gateway-%d.test:8443", i))
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	for range names {
		<-nobody.asked
	}
	stop()
	<-ended
	for _, g := range s.gateways.list {
		g.mu.Lock()
		err := g.err
		g.mu.Unlock()
		if err == nil {
			t.Fatalf("Run has returned, and the look-up of %s goes on", g.host)
		}
	}
}
