// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// courier delivers events: the nearest due first, one at a time. A nil *courier has none to deliver.
type courier struct {
	deliver    func([]byte)
	jitter     time.Duration
	duplicates float64
	wake       chan struct{} // a token when queue or stopped changed; one is enough, there is one receiver
	ended      chan struct{} // closed when run has returned

	mu      sync.Mutex
	random  *rand.Rand
	stopped bool
	queue   []parcel      // by due; equals in the order in which they were posted
	pending int           // queued, and the one being delivered
	quiet   chan struct{} // closed while pending is 0
}

type parcel struct {
	due   time.Time
	event []byte
}

func startCourier(cfg Config) *courier {
	c := &courier{
		deliver: cfg.OnEvent, jitter: cfg.EventJitter, duplicates: cfg.EventDuplicates,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), quiet: make(chan struct{}),
		random: rand.New(rand.NewPCG(cfg.EventSeed, 0)),
	}
	close(c.quiet)
	go c.run()
	return c
}

// post queues an event, and perhaps once more.
func (c *courier) post(event []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	now := time.Now()
	c.put(now, event)
	if c.duplicates > 0 && c.random.Float64() < c.duplicates {
		c.put(now, slices.Clone(event)) // the receiver owns what it is given
	}
	c.poke()
}

// put is called with mu held. Without jitter events go to the end: the search is what lets jitter reorder them.
func (c *courier) put(now time.Time, event []byte) {
	if c.jitter > 0 {
		now = now.Add(time.Duration(c.random.Int64N(int64(c.jitter))))
	}
	i := len(c.queue)
	if i > 0 && c.queue[i-1].due.After(now) {
		i, _ = slices.BinarySearchFunc(c.queue, now, func(p parcel, due time.Time) int {
			if p.due.After(due) {
				return 1
			}
			return -1
		})
	}
	c.queue = slices.Insert(c.queue, i, parcel{now, event})
	if c.pending == 0 {
		c.quiet = make(chan struct{})
	}
	c.pending++
}

func (c *courier) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run is the courier's goroutine; close ends it.
func (c *courier) run() {
	defer close(c.ended)
	for {
		event, wait, stopped := c.next()
		switch {
		case stopped:
			return
		case event != nil:
			c.deliver(event)
			c.delivered()
		case wait > 0:
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-c.wake:
				t.Stop()
			}
		default:
			<-c.wake
		}
	}
}

// next takes the event that is due, or says how long until one is; neither means that none is queued.
func (c *courier) next() (event []byte, wait time.Duration, stopped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || len(c.queue) == 0 {
		return nil, 0, c.stopped
	}
	first := c.queue[0]
	if wait := time.Until(first.due); wait > 0 {
		return nil, wait, false
	}
	c.queue[0] = parcel{}
	c.queue = c.queue[1:]
	return first.event, 0, false
}

func (c *courier) delivered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending--; c.pending == 0 {
		close(c.quiet)
	}
}

// close drops what is queued and waits for the delivery under way. It may be called more than once.
func (c *courier) close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.poke()
	<-c.ended
}

// WaitEvents waits until every event so far, and any that come meanwhile, has been delivered and OnEvent has returned.
// It returns ctx's error if that ends first, and nil if the server is closed.
func (s *Server) WaitEvents(ctx context.Context) error {
	if s.courier == nil {
		return nil
	}
	s.courier.mu.Lock()
	quiet := s.courier.quiet
	s.courier.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-s.courier.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
