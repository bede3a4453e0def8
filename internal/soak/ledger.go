// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// harm is which calls a fault can make fail.
type harm int

const (
	nothing  harm = 0
	dialling harm = 1 << (iota - 1) // those whose connection is being made
	streams                         // those that are under way
	before                          // with dialling: of these, only those that began before it; the others wait until it is over
	picked                          // the victims only
)

// injury is one fault in time. Fields are set before it is entered, but for end.
type injury struct {
	kind    string
	harms   harm
	service string          // the one it strikes; "": all
	victims map[uint64]bool // with picked: the calls it strikes
	begin   time.Time
	end     time.Time // zero while it is in force
	failed  int       // calls it answers for
}

// near is how far from a fault a failure may be: a stream that ends, or a connection that begins to be made and fails in time.
const near = time.Second

// ledger knows what was done to the world when. It is safe for concurrent use.
type ledger struct {
	mu   sync.Mutex
	past []*injury // those that can still matter, in order of their begin
}

// remembered is how long an injury is kept after its end: longer than any call takes.
const remembered = 2 * patience

// strike enters an injury, from now on.
func (l *ledger) strike(i *injury) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i.begin = time.Now()
	for len(l.past) > 0 && !l.past[0].end.IsZero() && time.Since(l.past[0].end) > remembered {
		l.past = l.past[1:]
	}
	l.past = append(l.past, i)
}

// heal notes the end of an injury.
func (l *ledger) heal(i *injury) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i.end = time.Now()
}

// felt reports whether the injury has answered for a call.
func (l *ledger) felt(i *injury) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return i.failed > 0
}

// answerFor finds the injury that answers for a call that was cut, and charges it; nil if there is none.
func (l *ledger) answerFor(r result) *injury {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.past {
		if i.explains(r) {
			i.failed++
			return i
		}
	}
	return nil
}

// explains reports whether the injury can be the cause of the call's failure.
func (i *injury) explains(r result) bool {
	end := i.end
	if end.IsZero() {
		end = r.ended
	}
	switch {
	case r.ended.Before(i.begin), i.service != "" && i.service != r.service:
		return false
	case i.harms == picked:
		return i.victims[r.id] && r.ended.Sub(end) <= near
	case r.inStream:
		return i.harms&streams != 0 && r.ended.Sub(end) <= near
	case i.harms&before != 0 && r.began.After(i.begin):
		return false
	case i.harms&dialling == 0:
		return false
	default:
		return r.began.Sub(end) <= near && r.ended.Sub(end) <= dialTimeout+near
	}
}

// around says, for a failure that nothing explains, what was broken between 10 s before the call and its end.
func (l *ledger) around(r result) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, i := range l.past {
		switch since := r.began.Sub(i.end); {
		case i.begin.After(r.ended) || !i.end.IsZero() && since > 10*time.Second:
		case i.end.IsZero():
			out = append(out, fmt.Sprintf("%s from %v before it", i.kind, r.began.Sub(i.begin).Round(time.Millisecond)))
		default:
			out = append(out, fmt.Sprintf("%s for %v until %v before it", i.kind, i.end.Sub(i.begin).Round(time.Millisecond), since.Round(time.Millisecond)))
		}
	}
	if out == nil {
		return "no fault"
	}
	return strings.Join(out, ", ")
}

// quiet reports whether nothing was broken from one time to the other, nor shortly before.
func (l *ledger) quiet(from, to time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.past {
		if i.begin.Before(to) && (i.end.IsZero() || i.end.Add(near).After(from)) {
			return false
		}
	}
	return true
}

// mark says that from now on, and not before, the injury is in full force.
func (i *injury) mark(l *ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i.begin = time.Now()
}
