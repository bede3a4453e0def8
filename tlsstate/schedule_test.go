// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/clock/clocktest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// gaps are the pauses between reads of the store.
func (s *store) gaps() []time.Duration {
	times := s.times()
	var gaps []time.Duration
	for i := 1; i < len(times); i++ {
		gaps = append(gaps, times[i].Sub(times[i-1]))
	}
	return gaps
}

// leafFor is a document whose leaf lives that long from now.
func leafFor(t testing.TB, ca certtest.CA, life time.Duration) []byte {
	t.Helper()
	return certtest.Encode(t, ca.Doc(t, certtest.Service(t, "fn"), meshsim.LeafOptions{NotAfter: time.Now().Add(life)}))
}

// checkBackoff checks that each pause is between half and all of its limit: 200 ms, doubled up to a cap.
func checkBackoff(t *testing.T, gaps []time.Duration, limit time.Duration) {
	t.Helper()
	reached := 0
	for i, gap := range gaps {
		longest := min(limit, 200*time.Millisecond<<min(i, 20))
		if gap < longest/2 || gap > longest {
			t.Errorf("pause %d is %v, want between half and all of %v", i, gap, longest)
		}
		if longest == limit {
			reached++
		}
	}
	if reached < 3 {
		t.Errorf("the cap of %v was reached %d times, the test shows little: %v", limit, reached, gaps)
	}
}

// R13: thousands of cold starts at once share 40 reads a second: retries come soon at first, then thin out, and those of
// different sandboxes drift apart.
func TestFailedReadsAreRetriedWithJitteredBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := make(map[time.Duration]bool)
		sources := make([]*store, 20)
		for i := range sources {
			sources[i] = new(store)
			sources[i].fail(errThrottled)
			start(t, sources[i], tlsstate.Config{})
		}
		time.Sleep(2 * time.Minute)
		for _, source := range sources {
			gaps := source.gaps()
			checkBackoff(t, gaps, 10*time.Second)
			first[gaps[0]] = true
		}
		if len(first) < 15 {
			t.Errorf("20 sandboxes made %d different first pauses", len(first))
		}
	})
}

// R13: who has good credentials is in no hurry, and lets those go first who have none. Neither does it wait until they
// have run out.
func TestFailedRefreshesThinOutWhileCredentialsLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, storeOf(t, certDocument(t)), tlsstate.Config{Refresh: time.Minute})
		w.ready(t)
		w.store.fail(errThrottled)
		time.Sleep(30 * time.Minute)
		checkBackoff(t, w.store.gaps()[1:], time.Minute)
	})
	synctest.Test(t, func(t *testing.T) {
		source := new(store)
		source.put(leafFor(t, certtest.NewCA(t), 10*time.Minute))
		w := start(t, source, tlsstate.Config{Refresh: time.Hour})
		end := w.ready(t).NotAfter()
		w.store.fail(errThrottled)
		time.Sleep(15 * time.Minute)
		times := w.store.times()
		for i := 2; i < len(times); i++ {
			left := end.Sub(times[i-1])
			if gap := times[i].Sub(times[i-1]); gap > max(10*time.Second, left/2) {
				t.Errorf("a pause of %v with %v left of the leaf", gap, left)
			}
		}
	})
}

// R13: the backoff begins anew after a success.
func TestSuccessEndsTheBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(store)
		w := start(t, source, tlsstate.Config{})
		time.Sleep(time.Minute)
		source.put(certtest.Encode(t, certDocument(t)))
		time.Sleep(10 * time.Second)
		w.ready(t)
		source.fail(errThrottled)
		reads := source.count()
		time.Sleep(6 * time.Minute)
		if gap := source.gaps()[reads]; gap > 200*time.Millisecond {
			t.Errorf("the first failure after a success is followed by a pause of %v", gap)
		}
	})
}

// R13: dials do not ask the store, the schedule does. Many of them while there are no credentials are no burst.
func TestDialsThatWaitDoNotAskTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(store)
		w := start(t, source, tlsstate.Config{})
		time.Sleep(time.Minute)
		for range 1000 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, _ = w.Dial(ctx, 0)
			cancel()
		}
		for i, gap := range source.gaps()[8:] {
			if gap < 5*time.Second {
				t.Errorf("pause %d is %v", i, gap)
			}
		}
	})
}

// R12: the last good credentials serve until they expire, whatever the store says, and not a moment longer. The
// predecessor ended the process when the parameter was gone.
func TestLastGoodCredentialsServeUntilTheyExpire(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"not found": errNotFound, "throttled": errThrottled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				source := new(store)
				source.put(leafFor(t, certtest.NewCA(t), 20*time.Minute))
				w := start(t, source, tlsstate.Config{})
				snap := w.ready(t)
				source.fail(err)
				for time.Now().Before(snap.NotAfter()) {
					time.Sleep(time.Minute)
					if w.ready(t) != snap {
						t.Fatal("the snapshot changed")
					}
				}
				if w.log.Count(`"level":"WARN"`) < 3 || w.log.Count(`"level":"ERROR"`) != 0 {
					t.Errorf("want a warning at each refresh, and no error yet:\n%s", w.log)
				}
				time.Sleep(time.Nanosecond)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				began := time.Now()
				_, dialErr := w.Dial(ctx, 0)
				if took := time.Since(began); took != 2*time.Second {
					t.Errorf("waited %v, want the 2 s of the context", took)
				}
				if !errors.Is(dialErr, tlsstate.ErrNoCredentials) || !errors.Is(dialErr, err) || !strings.Contains(dialErr.Error(), "expired at 2000-01-01T00:20:00Z") {
					t.Errorf("error %v, want ErrNoCredentials, when the leaf expired, and %v", dialErr, err)
				}
				time.Sleep(20 * time.Second)
				if w.log.Count(`"level":"ERROR"`) == 0 {
					t.Errorf("nothing says that credentials have expired:\n%s", w.log)
				}
				source.put(leafFor(t, certtest.NewCA(t), time.Hour))
				if got := w.ready(t).Generation(); got != 2 {
					t.Errorf("healed with generation %d", got)
				}
			})
		})
	}
}

// A document that is read again unchanged when its leaf has expired is a failure, not a success.
func TestExpiredDocumentIsNotTakenForUnchanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(store)
		source.put(leafFor(t, certtest.NewCA(t), time.Minute))
		w := start(t, source, tlsstate.Config{})
		w.ready(t)
		time.Sleep(2 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := w.Ready(ctx); !errors.Is(err, tlsstate.ErrNoCredentials) || !strings.Contains(err.Error(), "registrator") {
			t.Errorf("error %v, want one that says who should have renewed it", err)
		}
		for _, gap := range source.gaps() {
			if gap < 100*time.Millisecond {
				t.Errorf("the store was asked again after %v", gap)
			}
		}
	})
}

// R9, R13: who waits goes on the moment credentials come; who may not wait that long is told why there are none.
func TestWaitingDialsGoOnWhenCredentialsCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(store)
		source.fail(errThrottled)
		w := start(t, source, tlsstate.Config{})
		const n = 10
		went := make(chan time.Time, n)
		for range n {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if _, err := w.Ready(ctx); err != nil {
					t.Error(err)
				}
				went <- time.Now()
			}()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := w.Dial(ctx, 0); !errors.Is(err, tlsstate.ErrNoCredentials) || !errors.Is(err, errThrottled) {
			t.Errorf("error %v, want ErrNoCredentials and the cause", err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("waited %v, want the 2 s of the context", took)
		}
		source.put(certtest.Encode(t, certDocument(t)))
		for range n {
			at := <-went
			if read := source.times(); !at.Equal(read[len(read)-1]) {
				t.Errorf("went on %v after the read", at.Sub(read[len(read)-1]))
			}
		}
	})
}

// Before the store has said anything there is a word for that too.
func TestNothingReadYetIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(store)
		source.hang()
		w := start(t, source, tlsstate.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.Ready(ctx); !errors.Is(err, tlsstate.ErrNoCredentials) || !strings.Contains(err.Error(), "not answered yet") {
			t.Errorf("error %v", err)
		}
		if w.Snapshot() != nil {
			t.Error("a snapshot came from nowhere")
		}
	})
}

// The refresh is due after the configured time, or a tenth less, or half of what the leaf has left. (A certificate counts
// in whole seconds.)
func TestRefreshInterval(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ refresh, leaf, shortest, longest time.Duration }{
		"default":           {0, 72 * time.Hour, 270 * time.Second, 300 * time.Second},
		"configured":        {time.Hour, 72 * time.Hour, 54 * time.Minute, time.Hour},
		"a leaf near death": {time.Hour, 40 * time.Minute, 20*time.Minute - time.Second, 20 * time.Minute},
		"one nearer":        {time.Hour, 30 * time.Second, 14 * time.Second, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				seen := make(map[time.Duration]bool)
				sources := make([]*store, 10)
				for i := range sources {
					sources[i] = new(store)
					sources[i].put(leafFor(t, certtest.NewCA(t), tc.leaf))
					start(t, sources[i], tlsstate.Config{Refresh: tc.refresh})
				}
				time.Sleep(tc.longest + time.Millisecond)
				for _, source := range sources {
					gaps := source.gaps()
					if len(gaps) != 1 || gaps[0] < tc.shortest || gaps[0] > tc.longest {
						t.Errorf("read again after %v, want %v to %v", gaps, tc.shortest, tc.longest)
					} else {
						seen[gaps[0]] = true
					}
				}
				if tc.longest-tc.shortest > time.Second && len(seen) < 8 {
					t.Errorf("10 sandboxes refresh after %d different times", len(seen))
				}
			})
		})
	}
}

// The store is never asked in a tight loop, however short the lives of leaves and however many dials look.
func TestRefreshIsNeverMoreOftenThanItsMinimum(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]bool{"the same document": false, "a new one each time": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ca := certtest.NewCA(t)
				source := new(store)
				doc := leafFor(t, ca, 2*time.Second)
				source.set(func(context.Context) ([]byte, error) {
					if fresh {
						doc = leafFor(t, ca, 1500*time.Millisecond)
					}
					return doc, nil
				})
				w := start(t, source, tlsstate.Config{})
				for range 1900 {
					time.Sleep(time.Millisecond)
					w.Usable()
				}
				if n := source.count(); n < 4 || n > 8 {
					t.Errorf("%d reads in 1.9 s", n)
				}
				for _, gap := range source.gaps() {
					if gap < 250*time.Millisecond {
						t.Errorf("read again after %v", gap)
					}
				}
			})
		})
	}
}

// jumps are the ways in which a freeze may show: R14 trusts neither clock.
var jumps = map[string]func(*clocktest.Skew, time.Duration){
	"wall clock": (*clocktest.Skew).JumpWall,
	"monotonic":  (*clocktest.Skew).JumpMono,
	"both":       (*clocktest.Skew).Jump,
}

// R14: after a freeze the next use finds out what is due: in the background while the leaf in hand is good, and before it
// is used when it is not. The predecessor used what it had.
func TestUseAfterAFreezeRefreshesWhatIsDue(t *testing.T) {
	t.Parallel()
	const latency = 100 * time.Millisecond
	for kind, jump := range jumps {
		for _, frozen := range []time.Duration{60 * time.Second, 400 * time.Second, time.Hour} {
			for _, life := range []time.Duration{72 * time.Hour, 30 * time.Minute} {
				t.Run(fmt.Sprintf("%s %v, leaf of %v", kind, frozen, life), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						ca := certtest.NewCA(t)
						source := new(store)
						source.put(leafFor(t, ca, life))
						w := start(t, source, tlsstate.Config{})
						old := w.ready(t)
						synctest.Wait()
						next := leafFor(t, ca, 72*time.Hour)
						source.set(func(context.Context) ([]byte, error) {
							time.Sleep(latency)
							return next, nil
						})
						jump(w.skew, frozen)
						due := frozen > 5*time.Minute
						expired := kind != "monotonic" && frozen > life
						synctest.Wait()
						if source.count() != 1 {
							t.Fatal("read again before it was used: the test shows nothing")
						}

						began := time.Now()
						snap := w.ready(t)
						took := time.Since(began)
						switch {
						case expired && (snap == old || took != latency):
							t.Errorf("an expired leaf: generation %d after %v", snap.Generation(), took)
						case !expired && (snap != old || took != 0):
							t.Errorf("a good leaf: generation %d after %v", snap.Generation(), took)
						}
						time.Sleep(latency)
						synctest.Wait()
						if refreshed := w.Snapshot() != old; refreshed != due {
							t.Errorf("refreshed is %v, want %v", refreshed, due)
						}
						if want := map[bool]int{false: 1, true: 2}[due]; source.count() != want {
							t.Errorf("%d reads, want %d", source.count(), want)
						}
					})
				})
			}
		}
	}
}

// R14: a thaw that is noticed starts what is due without waiting for a use, and nothing else.
func TestThawStartsWhatIsDue(t *testing.T) {
	t.Parallel()
	for kind, jump := range jumps {
		for _, frozen := range []time.Duration{60 * time.Second, 400 * time.Second, time.Hour} {
			t.Run(fmt.Sprintf("%s %v", kind, frozen), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := start(t, storeOf(t, certDocument(t)), tlsstate.Config{})
					w.ready(t)
					synctest.Wait()
					jump(w.skew, frozen)
					w.Thawed(frozen)
					synctest.Wait()
					if want := map[bool]int{false: 1, true: 2}[frozen > 5*time.Minute]; w.store.count() != want {
						t.Errorf("%d reads, want %d", w.store.count(), want)
					}
				})
			})
		}
	}
}

// R14: after a freeze a retry is not owed the rest of its pause.
func TestThawCutsABackoffShort(t *testing.T) {
	t.Parallel()
	for kind, jump := range jumps {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				source := new(store)
				w := start(t, source, tlsstate.Config{})
				time.Sleep(time.Minute)
				source.put(certtest.Encode(t, certDocument(t)))
				jump(w.skew, time.Minute)
				w.Thawed(time.Minute)
				synctest.Wait()
				if w.Snapshot() == nil {
					t.Error("the store was not asked at once")
				}
			})
		})
	}
}

// R14: a read that was under way in a freeze has a dead connection and a meaningless deadline: it is ended and begun
// anew at once.
func TestThawEndsAReadThatHangs(t *testing.T) {
	t.Parallel()
	for name, had := range map[string]bool{"the first": false, "a refresh": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				source := new(store)
				want := uint64(1)
				if had {
					source.put(certtest.Encode(t, certDocument(t)))
					want = 2
				}
				w := start(t, source, tlsstate.Config{})
				synctest.Wait()
				source.hang()
				w.skew.Jump(time.Hour)
				w.Thawed(time.Hour)
				synctest.Wait()
				hung := source.count()

				time.Sleep(time.Second)
				source.put(certtest.Encode(t, certDocument(t)))
				w.Thawed(time.Minute)
				synctest.Wait()
				if snap := w.Snapshot(); snap == nil || snap.Generation() != want || source.count() != hung+1 {
					t.Errorf("%d reads after %d, snapshot %v", source.count(), hung, snap)
				}
				if w.log.Count(`"level":"WARN"`) > 1 { // the one before the first document
					t.Errorf("a read that was ended on purpose is no failure:\n%s", w.log)
				}
			})
		})
	}
}

// R14: an answer that lay in the socket through a freeze is as old as the question. A refresh that a use set off is likely
// to be frozen with the end of that invocation.
func TestAnswerFromBeforeAFreezeIsAsOldAsTheQuestion(t *testing.T) {
	t.Parallel()
	for kind, jump := range jumps {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				source := storeOf(t, certDocument(t))
				w := start(t, source, tlsstate.Config{})
				w.ready(t)
				doc := certtest.Encode(t, certDocument(t))
				froze := false
				source.set(func(context.Context) ([]byte, error) {
					if !froze {
						froze = true
						jump(w.skew, time.Hour)
					}
					return doc, nil
				})
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if gaps := source.gaps(); !froze || len(gaps) != 2 || gaps[1] != 0 {
					t.Errorf("read after %v, want the second refresh to follow the first at once", gaps)
				}
			})
		})
	}
}

// R13: a store that fails at once is not asked more often because of thaws that are none.
func TestThawsDoNotMakeABurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(store)
		w := start(t, source, tlsstate.Config{})
		time.Sleep(time.Minute)
		reads := source.count()
		for range 100 {
			w.Thawed(time.Second)
			time.Sleep(time.Millisecond)
		}
		if n := source.count() - reads; n > 1 {
			t.Errorf("%d reads in 100 ms", n)
		}
	})
}

// A read is bounded even if nobody waits for it.
func TestReadThatHangsIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(store)
		source.hang()
		w := start(t, source, tlsstate.Config{})
		time.Sleep(6 * time.Second)
		if gaps := source.gaps(); len(gaps) != 1 || gaps[0] < 5100*time.Millisecond || gaps[0] > 5200*time.Millisecond {
			t.Errorf("asked again after %v, want 5 s and the first pause", gaps)
		}
		if w.log.Count("no credentials yet") != 1 {
			t.Errorf("it was not told:\n%s", w.log)
		}
	})
}

// R12: a panic in the store's client ends an attempt, and not the function.
func TestPanicOfTheSourceIsSurvived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := new(store)
		source.set(func(context.Context) ([]byte, error) { panic("nobody thought of that") })
		w := start(t, source, tlsstate.Config{})
		time.Sleep(time.Second)
		if source.count() < 3 || w.log.Count("nobody thought of that") != source.count() {
			t.Errorf("after %d panics:\n%s", source.count(), w.log)
		}
		source.put(certtest.Encode(t, certDocument(t)))
		w.ready(t)
	})
}

// Run ends with its context, also in the middle of a read, and says nothing about that.
func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, prepare := range map[string]func(*store){
			"reading":  (*store).hang,
			"waiting":  func(s *store) { s.put(certtest.Encode(t, certDocument(t))) },
			"retrying": func(s *store) { s.fail(errThrottled) },
		} {
			source := new(store)
			prepare(source)
			state, err := tlsstate.New(tlsstate.Config{Source: source, Gateways: []string{"127.0.0.1:1"}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				state.Run(ctx)
				close(ended)
			}()
			synctest.Wait()
			cancel()
			synctest.Wait()
			select {
			case <-ended:
			default:
				t.Errorf("%s: Run goes on", name)
			}
		}
	})
}
