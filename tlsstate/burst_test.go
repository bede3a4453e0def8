// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// update makes TestBurstsAreAsDocumented write docs/burst.md's table and its picture anew. Not with the race detector, which
// cannot have 10,000 goroutines.
var update = flag.Bool("update", false, "write the table and the picture of docs/burst.md")

const (
	// burstLatency is what a read takes, answered or refused: Parameter Store in the same region.
	burstLatency = 15 * time.Millisecond

	// nextBy is when Next is called at the latest, with or without credentials (R13). The extension's main holds it; here it
	// is the bound of the same call, State.Ready, that main makes.
	nextBy = 2 * time.Second

	// longestPause is that between two reads of a sandbox without credentials.
	longestPause = 10 * time.Second
)

// burst is many cold starts within a second, against a store that answers so many reads a second and refuses the others.
type burst struct {
	sandboxes int
	quota     int // reads a second
}

func (b burst) String() string {
	return fmt.Sprintf("%s cold starts, %s reads/s", thousands(b.sandboxes), thousands(b.quota))
}

// ideal is how long the store needs for as many reads as there are sandboxes: no client can be faster.
func (b burst) ideal() time.Duration {
	return time.Duration(float64(b.sandboxes) / float64(b.quota) * float64(time.Second))
}

// burstResult is what became of it. Durations count from the sandbox's own start, but for ends, which are instants of the burst.
type burstResult struct {
	waits   []time.Duration // until each sandbox had credentials, ascending
	ends    []time.Duration // the same since the burst began, ascending
	next    []time.Duration // until each called Next, ascending
	inTime  int             // sandboxes that had credentials then
	reads   []int           // of each sandbox, ascending
	offered []int           // reads in each second, refused ones too
}

// quota is a store whose reads are limited by a token bucket, as AWS's APIs are: it fills at a rate, holds a second's worth,
// and refuses a read for which there is no token.
type quota struct {
	doc   []byte
	rate  float64
	began time.Time

	mu      sync.Mutex
	tokens  float64
	filled  time.Time
	offered []int
}

func newQuota(doc []byte, perSecond int) *quota {
	now := time.Now()
	return &quota{doc: doc, rate: float64(perSecond), began: now, tokens: float64(perSecond), filled: now}
}

// counted is the quota as one sandbox sees it.
type counted struct {
	*quota
	reads int // only its State's Run reads, one at a time
}

var _ tlsstate.Source = (*counted)(nil)

func (c *counted) Fetch(context.Context) ([]byte, error) {
	c.reads++
	granted := c.take()
	time.Sleep(burstLatency)
	if !granted {
		return nil, errThrottled
	}
	return c.doc, nil
}

func (q *quota) take() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for second := int(now.Sub(q.began) / time.Second); len(q.offered) <= second; {
		q.offered = append(q.offered, 0)
	}
	q.offered[len(q.offered)-1]++
	q.tokens = min(q.rate, q.tokens+now.Sub(q.filled).Seconds()*q.rate)
	q.filled = now
	if q.tokens < 1 {
		return false
	}
	q.tokens--
	return true
}

// run starts the sandboxes, waits until all have credentials, and counts. All that is simulated is the store and time: each
// sandbox is a State that runs as in the extension.
func (b burst) run(t testing.TB) (r burstResult) {
	t.Helper()
	store := newQuota(certtest.Encode(t, certDocument(t)), b.quota)
	ctx, cancel := context.WithCancel(t.Context())
	var (
		mu               sync.Mutex
		waiting, running sync.WaitGroup
		ups              = upstreams(t, "web:8080")
	)
	for range b.sandboxes {
		waiting.Go(func() {
			time.Sleep(rand.N(time.Second))
			began := time.Now()
			source := &counted{quota: store}
			state, err := tlsstate.New(tlsstate.Config{Source: source, Upstreams: ups, Gateways: []string{"127.0.0.1:1"}})
			if err != nil {
				t.Error(err)
				return
			}
			running.Go(func() { state.Run(ctx) })
			init, done := context.WithTimeout(ctx, nextBy)
			_, err = state.Ready(init)
			done()
			next := time.Since(began)
			if _, late := state.Ready(ctx); late != nil {
				t.Errorf("a sandbox has no credentials: %v", late)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				r.inTime++
			}
			r.next = append(r.next, next)
			r.waits = append(r.waits, time.Since(began))
			r.ends = append(r.ends, time.Since(store.began))
			r.reads = append(r.reads, source.reads) // its Run reads next in minutes
		})
	}
	waiting.Wait()
	cancel()
	running.Wait()
	store.mu.Lock()
	r.offered = store.offered
	store.mu.Unlock()
	for _, d := range [][]time.Duration{r.waits, r.ends, r.next} {
		slices.Sort(d)
	}
	slices.Sort(r.reads)
	return r
}

// check holds a burst against R13: nobody gives up, nobody holds up Init, the store is not idle while somebody waits for
// it, and is not asked much more often than it can answer.
func (b burst) check(t testing.TB, r burstResult) {
	t.Helper()
	if len(r.waits) != b.sandboxes {
		t.Errorf("%d of %d sandboxes have credentials", len(r.waits), b.sandboxes)
	}
	if last := r.next[len(r.next)-1]; last > nextBy {
		t.Errorf("Next is called after %v", last)
	}
	// Nobody knows that the store has time again, so the last ones find out by their own pauses.
	if last, limit := r.ends[len(r.ends)-1], b.ideal()+time.Second+longestPause; last > limit {
		t.Errorf("the last sandbox had its credentials after %v, want %v at most", last, limit)
	}
	// Six pauses of 200 ms to 6.4 s, of which half may pass, then one of 5 s at the least.
	if most, limit := r.reads[len(r.reads)-1], 7+int(r.ends[len(r.ends)-1]/(longestPause/2)); most > limit {
		t.Errorf("a sandbox read %d times, want %d at most", most, limit)
	}
	if peak := slices.Max(r.offered); peak > 3*b.sandboxes {
		t.Errorf("%d reads in a second", peak)
	}
	for second, n := range r.offered {
		if limit := b.sandboxes/4 + b.quota; second >= 20 && n > limit {
			t.Errorf("%d reads in second %d, want %d at most", n, second, limit)
		}
	}
}

// R13: 1,000 sandboxes that start together share 40 reads a second.
func TestABurstOfColdStartsIsServedAtTheStoresRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := burst{1000, 40}
		r := b.run(t)
		b.check(t, r)
		t.Logf("\n%s%s", burstHeader, b.row(r))
	})
}

// R13: the bursts of docs/burst.md, whose figures these are. -update writes them down.
func TestBurstsAreAsDocumented(t *testing.T) {
	if !*update && os.Getenv("BURST") == "" {
		t.Skip("takes ten seconds, and more goroutines than the race detector can have: BURST=1 runs it")
	}
	var table strings.Builder
	var lines []burstLine
	for _, b := range []burst{{1000, 40}, {10000, 40}, {1000, 1000}, {10000, 1000}, {10000, 10000}} {
		synctest.Test(t, func(t *testing.T) {
			r := b.run(t)
			b.check(t, r)
			table.WriteString(b.row(r))
			lines = append(lines, burstLine{b.String(), r.ends})
		})
	}
	t.Logf("\n%s%s", burstHeader, &table)
	if *update {
		writeBursts(t, burstHeader+table.String(), lines)
	}
}

const burstHeader = `| cold starts within 1 s | reads/s | no client can be faster than | half have credentials | 99 % | all | had them at their Next | Next at the latest | reads per sandbox, mean; most | reads offered: first second; 10th; mean |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
`

func (b burst) row(r burstResult) string {
	total := 0
	for _, n := range r.reads {
		total += n
	}
	tenth := 0
	if len(r.offered) > 9 {
		tenth = r.offered[9]
	}
	end := r.ends[len(r.ends)-1]
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %.1f %% | %.2f s | %.1f; %d | %s; %s; %s |\n",
		thousands(b.sandboxes), thousands(b.quota), seconds(b.ideal()), seconds(share(r.ends, 0.5)), seconds(share(r.ends, 0.99)), seconds(end),
		100*float64(r.inTime)/float64(b.sandboxes), r.next[len(r.next)-1].Seconds(),
		float64(total)/float64(b.sandboxes), r.reads[len(r.reads)-1],
		thousands(r.offered[0]), thousands(tenth), thousands(int(float64(total)/end.Seconds())))
}

// share is the least value that such a share of the values does not exceed.
func share(ascending []time.Duration, of float64) time.Duration {
	return ascending[max(0, int(of*float64(len(ascending)))-1)]
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// thousands is n as prose has it.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
