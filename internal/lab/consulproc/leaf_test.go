// SPDX-License-Identifier: MPL-2.0

package consulproc_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
)

// shortestLife is the shortest life of a leaf that Consul renews by its usual rule; anything shorter is taken for a bug
// and renewed at once (agent/leafcert/util.go).
const shortestLife = 10 * time.Minute

// lived returns which part of the leaf's life is over, from 0 to 1.
func lived(leaf *api.LeafCert) float64 {
	return float64(time.Since(leaf.ValidAfter)) / float64(leaf.ValidBefore.Sub(leaf.ValidAfter))
}

// G8 rests on these numbers. They cannot be had sooner: see shortestLife.
func TestAPlainReadOfALeafRenewsOnlyPastNinetyPercentOfItsLife(t *testing.T) {
	t.Parallel()
	long(t, "nine minutes")
	server := start(t, consulproc.Config{LeafTTL: shortestLife})
	ctx, cancel := context.WithTimeout(t.Context(), shortestLife)
	defer cancel()
	readers := []reader{{every: time.Second}, {every: 5 * time.Second}, {every: 20 * time.Second}, {}, {}, {}, {}}
	renewals := make([]renewal, len(readers))
	var reading sync.WaitGroup // not subtests, of which only as many run at once as there are processors
	for i, r := range readers {
		r.agent, r.service = client(t, server, "").Agent(), fmt.Sprintf("service-%d", i)
		reading.Go(func() { renewals[i] = r.read(ctx) })
	}
	reading.Wait()
	for i, got := range renewals {
		ok(t, got.err)
		if every := readers[i].every; every > 0 {
			t.Logf("read every %v: a newer leaf at %.4f of life, with read %d", every, got.after, got.reads)
			// The first read past nine tenths has it.
			if latest := 0.9 + 1.5*float64(every)/float64(shortestLife); got.after < 0.9 || got.before > latest {
				t.Errorf("it was made between %.4f and %.4f of life, want between 0.9 and %.4f", got.before, got.after, latest)
			}
			continue
		}
		t.Logf("blocking: a newer leaf at %.4f of life", got.after)
		if got.after < 0.6 || got.after > 0.91 {
			t.Errorf("it was made at %.4f of life, want between 0.6 and 0.9", got.after)
		}
	}
}

// reader asks for one service's leaf until there is a newer one.
type reader struct {
	agent   *api.Agent
	service string
	every   time.Duration // 0 blocks instead
}

// renewal is when a reader got a newer leaf: what part of the older one's life was over before and after that read.
type renewal struct {
	before, after float64
	reads         int
	err           error
}

func (r reader) read(ctx context.Context) (got renewal) {
	options := &api.QueryOptions{}
	first, meta, err := r.agent.ConnectCALeaf(r.service, options.WithContext(ctx))
	if err != nil {
		return renewal{err: err}
	}
	if r.every == 0 {
		options.WaitIndex, options.WaitTime = meta.LastIndex, shortestLife
	}
	for {
		got.reads++
		got.before = lived(first)
		leaf, _, err := r.agent.ConnectCALeaf(r.service, options.WithContext(ctx))
		if got.after = lived(first); err != nil || leaf.SerialNumber != first.SerialNumber {
			got.err = err
			return got
		}
		select {
		case <-time.After(r.every):
		case <-ctx.Done():
			got.err = ctx.Err()
			return got
		}
	}
}

// The registrator may read as often as it likes: a leaf that need not be renewed costs no signature.
func TestPlainReadsOfAYoungLeafGiveTheSameLeaf(t *testing.T) {
	t.Parallel()
	server := start(t, consulproc.Config{LeafTTL: shortestLife})
	agent := client(t, server, "").Agent()
	first, _, err := agent.ConnectCALeaf("web", nil)
	ok(t, err)
	if life := first.ValidBefore.Sub(first.ValidAfter); life != shortestLife {
		t.Errorf("the leaf lives %v, want what was configured, %v", life, shortestLife)
	}
	// A leaf is a minute old when it is made, so that clocks may differ by that.
	if age := time.Since(first.ValidAfter); age < time.Minute || age > 2*time.Minute {
		t.Errorf("the new leaf is %v old, want a minute", age)
	}
	for range 20 {
		leaf, _, err := agent.ConnectCALeaf("web", nil)
		ok(t, err)
		if leaf.SerialNumber != first.SerialNumber {
			t.Fatalf("at %.2f of life a plain read made a new leaf", lived(first))
		}
	}
}

// Whoever measures renewal with shorter lives than that measures something else.
func TestEachPlainReadRenewsALeafWhoseWholeLifeIsUnderTenMinutes(t *testing.T) {
	t.Parallel()
	server := start(t, consulproc.Config{LeafTTL: shortestLife - time.Second})
	agent := client(t, server, "").Agent()
	seen := map[string]bool{}
	for range 5 {
		leaf, _, err := agent.ConnectCALeaf("web", nil)
		ok(t, err)
		seen[leaf.SerialNumber] = true
	}
	if len(seen) != 5 {
		t.Errorf("five plain reads gave %d leaves", len(seen))
	}
}

// A server forgets its leaves when it ends, so a read after a restart is a renewal at any age.
func TestARestartMakesNewLeaves(t *testing.T) {
	t.Parallel()
	server := start(t, consulproc.Config{})
	agent := client(t, server, "").Agent()
	first, _, err := agent.ConnectCALeaf("web", nil)
	ok(t, err)
	ok(t, server.Restart(t.Context()))
	second, _, err := agent.ConnectCALeaf("web", nil)
	ok(t, err)
	if first.SerialNumber == second.SerialNumber {
		t.Error("the leaf outlived the process")
	}
}
