// SPDX-License-Identifier: MPL-2.0

package bufpool_test

import (
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
)

func TestABufferIsAtLeastAsLargeAsAsked(t *testing.T) {
	var p bufpool.Pool
	for want, size := range map[int]int{
		0: bufpool.Min, 1: bufpool.Min, bufpool.Min: bufpool.Min, bufpool.Min + 1: bufpool.Record,
		bufpool.Record: bufpool.Record, bufpool.Medium - 1: bufpool.Medium, bufpool.Large: bufpool.Large, 1 << 30: bufpool.Large,
	} {
		b := p.Get(want)
		if len(b.B) != size {
			t.Errorf("asked for %d bytes: lent %d, want %d", want, len(b.B), size)
		}
		b.B = b.B[:1]
		p.Put(b)
	}
	if n := p.Lent(); n != 0 {
		t.Errorf("%d bytes lent after all were given back", n)
	}
}

// R17: past the budget buffers stay small, and they grow again when others were given back.
func TestPastTheBudgetBuffersStaySmall(t *testing.T) {
	p := bufpool.New(2 * bufpool.Large)
	a, b := p.Get(bufpool.Large), p.Get(bufpool.Large)
	c := p.Get(bufpool.Large)
	if len(c.B) != bufpool.Min {
		t.Errorf("past the budget %d bytes were lent, want %d", len(c.B), bufpool.Min)
	}
	p.Put(a)
	p.Put(c)
	if d := p.Get(bufpool.Large); len(d.B) != bufpool.Large {
		t.Errorf("within the budget %d bytes were lent, want %d", len(d.B), bufpool.Large)
	} else {
		p.Put(d)
	}
	p.Put(b)
	if n := p.Lent(); n != 0 {
		t.Errorf("%d bytes lent after all were given back", n)
	}
}
