// SPDX-License-Identifier: MPL-2.0

//go:build !race

package tlsstate_test

import (
	"io"
	"math"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
)

// The budget: a chunk that is read or written, on real sockets, costs no allocation of ours. What crypto/tls costs by itself
// is pinned too: to write nothing, to read one small reader each time that it asks for bytes (atLeastReader in
// Conn.readFromUntil escapes). Neither test can run in parallel with others, whose allocations would be counted; nor with
// the race detector, which makes sync.Pool drop buffers at random.

// For a record that arrives alone crypto/tls asks in vain, before the Conn waits, then for what is there: a full record is
// more than it has room for when it asks for the header, so that it asks once more. In a stream it asks less often than
// once for each record.
func TestReadingARecordAllocatesWhatCryptoTLSDoesAlone(t *testing.T) {
	p := newPair(t, pairConfig{})
	_ = p.SetDeadline(time.Time{})
	for _, c := range []struct{ size, asks int }{{1 << 10, 2}, {16 << 10, 3}} {
		const runs, records = 20, 16
		// All are sealed before any is read: the far end allocates too. AllocsPerRun runs once more, to warm up.
		sealed := make([][]byte, (runs+1)*records)
		for i := range sealed {
			sealed[i] = p.far.sealed(t, make([]byte, c.size))
		}
		got := make([]byte, c.size)
		n := testing.AllocsPerRun(runs, func() {
			for range records {
				p.far.send(t, sealed[0])
				sealed = sealed[1:]
				p.Wait()
				if _, err := io.ReadFull(p, got); err != nil {
					t.Fatal(err)
				}
			}
		})
		t.Logf("%v allocations to read %d records of %d bytes, limit %d", n, records, c.size, records*c.asks)
		// A few more may be of what other tests left running.
		if each := math.Floor(n / records); each != float64(c.asks) {
			t.Errorf("%v for each record, want %d, no more and, unless crypto/tls changed, no less", each, c.asks)
		}
	}
}

func TestWritingAllocatesNothing(t *testing.T) {
	p := newPair(t, pairConfig{})
	_ = p.SetDeadline(time.Time{})
	taken := make(chan struct{})
	t.Cleanup(func() {
		_ = p.Reset()
		<-taken
	})
	go drain(p.far.tap.Conn, taken)
	for _, size := range []int{1 << 10, bufpool.Record, bufpool.Medium, bufpool.Large} {
		buf := make([]byte, size)
		const writes = 50 // so that one allocation in fifty writes is seen: an average is rounded down
		n := math.Inf(1)
		for range 5 { // what other tests left running allocates a little, now and then
			n = min(n, testing.AllocsPerRun(20, func() {
				for range writes {
					if _, err := p.Write(buf); err != nil {
						t.Fatal(err)
					}
				}
			}))
			if n == 0 {
				break
			}
		}
		t.Logf("%v allocations for %d writes of %d bytes, limit 0", n, writes, size)
		if n != 0 {
			t.Error("writing allocates")
		}
	}
}

// drain takes all bytes, and allocates nothing for them.
func drain(c io.Reader, done chan<- struct{}) {
	defer close(done)
	buf := make([]byte, 256<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}
