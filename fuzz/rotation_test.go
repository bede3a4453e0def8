// SPDX-License-Identifier: MPL-2.0

package fuzz

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// FuzzRotation: whatever the order in which leaves are renewed, roots are added and dropped, and documents are stored, stale
// ones and garbage too: a connection that is open stays, and carries exactly the bytes sent (R7); a new one works when and
// only when both ends trust the other's root by the documents in use (R1, R2); garbage changes nothing (R12); and
// generations count up by one for each document that is another one (R3).
func FuzzRotation(f *testing.F) {
	for _, seed := range rotationSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		s := schedule(input)
		flags := s.next()
		newRotation(t, int(flags&1), flags&2 != 0).play(&s)
	})
}

// rotationSeeds are orders of events that are worth trying always. The first byte says whether there is a spare connection,
// and whether an old root vouches for the next one; then each event is its kind and an argument. See play.
var rotationSeeds = []string{
	"\x00\x05\x00\x00\x00\x05\x00",                                                         // dial, new leaf, dial
	"\x01\x05\x00\x00\x00\x05\x00\x06\x01",                                                 // the same with a spare, and traffic
	"\x00\x05\x00\x01\x00\x00\x00\x05\x00\x02\x00\x05\x00\x06\x00",                         // a rotation as it should be
	"\x01\x05\x00\x01\x00\x00\x00\x05\x00\x02\x00\x00\x00\x05\x00",                         // with a spare
	"\x00\x05\x00\x01\x00\x05\x00\x00\x00\x05\x00",                                         // services rotate before the document
	"\x00\x01\x00\x02\x00\x05\x00\x00\x00\x05\x00",                                         // the old root is dropped too early
	"\x00\x00\x00\x01\x00\x00\x00\x03\x00\x05\x00\x03\x02\x05\x00",                         // a stale document, then the newest again
	"\x00\x04\x00\x04\x01\x04\x02\x04\x03\x04\x04\x04\x05\x04\x06\x05\x00",                 // garbage of every kind
	"\x01\x05\x00\x04\x03\x05\x00\x06\x00\x06\x01\x07\x00\x06\x00",                         // garbage under traffic
	"\x02\x05\x00\x01\x00\x05\x00\x01\x00\x05\x00\x00\x00\x05\x00",                         // the old root vouches for the next one, not for the one after
	"\x00\x03\x00\x03\x00\x00\x00\x03\x01\x03\x01",                                         // the same document again
	"\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x05\x00\x03\x00\x05\x00", // many roots, then a document from before all
}

const maxEvents = 20

// rotation is one input under way, and the model that it is held against: roots are numbered from 0 as they are made.
type rotation struct {
	*path
	t      testing.TB
	spares int
	vouch  bool // each root signs the next one too, as Consul's do
	open   []*net.TCPConn
	bytes  []byte // what is sent

	active int   // the root that signs
	first  int   // the oldest that the services trust
	shown  int   // the root of the leaf that the services show
	docs   []doc // all good ones that were stored
	inUse  int   // of these
	gen    uint64
}

// doc is a good document and what its trust is in the model.
type doc struct {
	raw         []byte
	leaf        int // the root that signed the function's leaf
	first, last int // the roots that it lists
}

func newRotation(t testing.TB, spares int, vouch bool) *rotation {
	t.Helper()
	r := &rotation{t: t, spares: spares, vouch: vouch, bytes: pattern('r', 64<<10), gen: 1}
	r.path = newPath(t, meshsim.CAConfig{NoCrossSign: !vouch}, services{{"web", meshsim.Echo, spares}})
	raw, err := r.store.Fetch(t.Context())
	ok(t, err)
	r.docs = []doc{{raw: raw}}
	return r
}

func (r *rotation) play(s *schedule) {
	stop := r.background()
	for n := 0; len(*s) > 0 && n < maxEvents && !r.t.Failed(); n++ {
		kind, arg := s.next()&7, int(s.next())
		switch kind {
		case 0:
			r.newDocument()
		case 1:
			ok(r.t, r.mesh.Rotate())
			r.active++
			r.shown = r.active
		case 2:
			r.mesh.CA.Prune()
			r.first = r.active
		case 3:
			r.use(arg % len(r.docs))
		case 4:
			r.garbage(arg)
		case 5:
			r.dial()
		case 6:
			r.traffic(arg)
		case 7:
			r.hangUp(arg)
		}
	}
	for i := range r.open {
		r.traffic(i)
	}
	stop()
	for _, c := range r.open {
		_ = c.Close()
	}
	r.close()
}

// background dials and sends while all else goes on; what it gets is right, or nothing.
func (r *rotation) background() (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			c, err := net.DialTimeout("tcp", r.addrs[0], patience)
			if err != nil {
				continue // a reset that came early
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			if got, err := exchange(c, r.bytes[:1000]); err != nil && !refused(err) || !bytes.HasPrefix(r.bytes, got) {
				r.t.Errorf("beside the rotation: %d bytes, right ones: %v, and %v", len(got), bytes.HasPrefix(r.bytes, got), err)
			}
			_ = c.Close()
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// refused reports whether an error is the reset, or the broken pipe after one, with which a function is refused.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// exchange sends to an echo and reads as much back.
func exchange(c net.Conn, b []byte) (got []byte, err error) {
	var writing sync.WaitGroup
	var writeErr error
	writing.Go(func() { _, writeErr = c.Write(b) })
	got = make([]byte, len(b))
	n, err := io.ReadFull(c, got)
	writing.Wait()
	if writeErr != nil {
		err = writeErr // the kernel tells a reset once
	}
	return got[:n], err
}

// newDocument issues a leaf and stores it with the roots of now, as the registrator does.
func (r *rotation) newDocument() {
	d, err := r.mesh.Document("fn")
	ok(r.t, err)
	r.docs = append(r.docs, doc{encode(r.t, d), r.active, r.first, r.active})
	r.use(len(r.docs) - 1)
}

// use stores the document and waits until it has been read.
func (r *rotation) use(i int) {
	r.t.Helper()
	r.store.put(r.docs[i].raw)
	r.readAgain(r.t)
	if i != r.inUse {
		r.inUse = i
		r.gen++
	}
	r.checkGeneration("a good document")
}

// garbage stores what nobody can use.
func (r *rotation) garbage(kind int) {
	good := r.docs[r.inUse].raw
	flaws := slices.DeleteFunc(meshsim.Flaws(), func(f meshsim.Flaw) bool {
		return f == meshsim.ForeignCA || f == meshsim.OtherIdentity || f == meshsim.WrongUsage // the services' to refuse
	})
	var raw []byte
	switch kind %= len(flaws) + 4; kind {
	case 0: // the parameter is gone
	case 1:
		raw = good[:len(good)/2]
	case 2:
		raw = []byte("{}")
	case 3:
		raw = bytes.Replace(good, []byte(`"trustDomain":"1`), []byte(`"trustDomain":"2`), 1)
	default:
		fn, err := mesh.NewService("fn", "", "")
		ok(r.t, err)
		d, err := r.mesh.CA.Document(fn, meshsim.LeafOptions{Flaw: flaws[kind-4]})
		ok(r.t, err)
		raw = encode(r.t, d)
	}
	r.store.put(raw)
	r.readAgain(r.t)
	r.checkGeneration("garbage")
}

func (r *rotation) checkGeneration(after string) {
	r.t.Helper()
	if got := r.state.Snapshot().Generation(); got != r.gen {
		r.t.Errorf("after %s generation %d is in use, want %d", after, got, r.gen)
	}
}

// dial makes a connection, which the model says must work or must not.
func (r *rotation) dial() {
	r.t.Helper()
	use := r.docs[r.inUse]
	weTrust := use.first <= r.shown && r.shown <= use.last || r.vouch && use.last == r.shown-1
	theyTrust := use.leaf >= r.first
	// It may be refused with the first byte, or before connect returns.
	var got []byte
	conn, err := net.DialTimeout("tcp", r.addrs[0], patience)
	if err == nil {
		ok(r.t, conn.SetDeadline(time.Now().Add(patience)))
		got, err = exchange(conn, r.bytes[:100])
	}
	switch {
	case !bytes.HasPrefix(r.bytes, got):
		r.t.Errorf("%d wrong bytes", len(got))
	case err == nil && !weTrust && r.spares == 0: // a spare one was verified when it was made
		r.t.Errorf("connected to a service whose root %d is none of %d to %d", r.shown, use.first, use.last)
	case err != nil && weTrust && theyTrust:
		r.t.Errorf("a connection that must work: %v", err)
	case err != nil && !refused(err):
		r.t.Errorf("a connection that cannot work ends with %v, want a reset", err)
	}
	if err == nil {
		r.open = append(r.open, conn.(*net.TCPConn))
	} else if conn != nil {
		_ = conn.Close()
	}
}

// traffic shows that an open connection is as good as new.
func (r *rotation) traffic(arg int) {
	r.t.Helper()
	if len(r.open) == 0 {
		return
	}
	c := r.open[arg%len(r.open)]
	ok(r.t, c.SetDeadline(time.Now().Add(patience)))
	want := r.bytes[:1+arg*len(r.bytes)/256]
	if got, err := exchange(c, want); err != nil || !bytes.Equal(got, want) {
		r.t.Errorf("an open connection echoed %d of %d bytes, %v", len(got), len(want), err)
	}
}

// hangUp ends an open connection in order.
func (r *rotation) hangUp(arg int) {
	r.t.Helper()
	if len(r.open) == 0 {
		return
	}
	i := arg % len(r.open)
	c := r.open[i]
	r.open = slices.Delete(r.open, i, i+1)
	ok(r.t, c.CloseWrite())
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		r.t.Errorf("at its end an open connection said %d bytes and %v", len(rest), err)
	}
	_ = c.Close()
}
