// SPDX-License-Identifier: MPL-2.0

package fuzz

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
)

// FuzzRelay: whatever the two ends and the network do, each end reads a prefix of what the other sent; a clean end only where
// the other ended in order, and then all of it (R5, R7); and everything ends. Where nobody reset or cut anything, all of it
// arrives with a clean end, both ways (R6). A stream that only its sender cut arrives whole, and then is reset.
//
// Not seen: what depends on time. The ends pause for microseconds, freezes and idle limits have tests of their own.
func FuzzRelay(f *testing.F) {
	for _, seed := range relaySeeds {
		f.Add([]byte(seed))
	}
	r := newRelayRig(f)
	f.Fuzz(func(t *testing.T, input []byte) {
		s := parseRelay(input)
		r.run(s).check(t, s)
	})
}

// relaySeeds are schedules that are worth running always. See parseRelay.
var relaySeeds = []string{
	"",                                 // both end at once, without a byte
	"\x01",                             // the same after a banner
	"\x00\x00\xaa\x00\x03\xff\x83\xff", // 255 KiB both ways
	"\x01\x00\x00\x33\x03\x40\x83\x40", // 64 KiB both ways, into one-byte buffers and slow readers
	"\x00\x00\xff\x00\x50\x00\x83\x80\x83\x80",                         // the function half-closes first, then is answered
	"\x00\x00\xff\x00\xd0\x00\x03\x80\x03\x80",                         // the service ends without a byte, while it is sent to
	"\x01\x00\xff\x00\xd0\x00\x03\x80\x03\x80",                         // the service ends first, after a byte, and reads on
	"\x00\x00\xaa\x00\x03\x20\x60\x00\x83\x80",                         // the function resets
	"\x00\x00\xaa\x00\x83\x20\xe0\x00\x03\x80",                         // the service resets
	"\x00\x00\xaa\x00\x83\x20\xf0\x00",                                 // the service is cut
	"\x00\x00\xaa\x00\x83\x20\xf0\x00\x03\xff\x03\xff",                 // the service is cut while it is sent to
	"\x00\x00\x8a\x0f\x83\xff\x83\xff\xf0\x00",                         // the service is cut while half a megabyte waits for a slow reader
	"\x08\x08\xaa\x00\x03\x40\x83\x40",                                 // the gateway resets
	"\x0a\x08\xaa\x00\x03\x40\x83\x40",                                 // the gateway cuts
	"\x0c\x08\xaa\x00\x03\x40\x83\x40",                                 // the gateway changes bytes
	"\x0e\x00\xaa\x00\x00\x40\x80\x40",                                 // bytes come one by one
	"\x00\x00\x55\x00\x02\x7e\x02\x7f\x02\x80\x02\x81\x82\x7f\x82\x80", // around the size of a record
	"\x01\x00\x55\x00\x00\x01\x40\x05\x80\x01\xc0\x05\x00\x01\x80\x01", // turn by turn
	"\x00\x00\xaa\x00\x50\x00\x60\x00\x83\x80",                         // a half-close, then a reset
	"\x00\x00\xaa\x00\xd0\x00\xe0\x00\x03\x80",                         // the same by the service
}

const (
	maxOps    = 24
	maxStream = 512 << 10
	banner    = "hello\n" // what the second service says at once, with or without a client (R8)
)

// relayScript is one schedule.
type relayScript struct {
	upstream       int // 1: with a spare connection, and a banner
	fault          meshsim.FaultPlan
	client, server side
}

// side is what one end does: write and end as its ops say, and read meanwhile.
type side struct {
	buffer int           // of a read
	late   time.Duration // until the first read
	ops    []op
}

type opKind byte

const (
	opSend opKind = iota
	opPause
	opEnd   // half-close
	opReset // close with a TCP reset
	opCut   // end TCP without close_notify; of the service only
)

type op struct {
	kind opKind
	n    int // bytes, or tens of microseconds
}

// total is how many bytes the side means to send.
func (s side) total() (n int) {
	for _, o := range s.ops {
		if o.kind == opSend {
			n += o.n
		}
	}
	return n
}

func (s side) does(kind opKind) bool {
	for _, o := range s.ops {
		if o.kind == kind {
			return true
		}
	}
	return false
}

// parseRelay decodes a schedule: upstream and fault, where the fault strikes, buffers and late readers in a nibble for each
// end, then ops of two bytes. Every input is one.
func parseRelay(input []byte) relayScript {
	s := schedule(input)
	head, at, buffers, late := s.next(), int64(s.next())*64, s.next(), s.next()
	r := relayScript{
		upstream: int(head & 1),
		client:   side{buffer: 1 << (buffers & 15), late: time.Duration(late&15) * 50 * time.Microsecond},
		server:   side{buffer: 1 << (buffers >> 4), late: time.Duration(late>>4) * 50 * time.Microsecond},
	}
	switch head >> 1 & 7 {
	case 4:
		r.fault.Up = meshsim.ByteFault{Kind: meshsim.ResetBytes, After: at}
	case 5:
		r.fault.Down = meshsim.ByteFault{Kind: meshsim.CutBytes, After: at}
	case 6:
		r.fault.Down = meshsim.ByteFault{Kind: meshsim.GarbageBytes, After: at}
	case 7:
		r.fault.Drip = true
	}
	for n := 0; len(s) > 0 && n < maxOps; n++ {
		code, arg := s.next(), int(s.next())
		to := &r.client
		if code&0x80 != 0 {
			to = &r.server
		}
		o := op{n: arg}
		switch code >> 4 & 7 {
		case 0, 1, 2, 3:
			switch code & 3 {
			case 1:
				o.n = arg*64 + 1
			case 2:
				o.n = 16<<10 - 128 + arg
			case 3:
				o.n = arg << 10
			}
			if r.fault.Drip {
				o.n &= 0xff // each byte costs a system call
			}
		case 4:
			o.kind = opPause
		case 5:
			o.kind = opEnd
		case 6:
			o.kind = opReset
		case 7:
			o.kind = opCut
			if to == &r.client {
				o.kind = opReset // without TLS there is no other way
			}
		}
		to.add(o)
	}
	for _, side := range []*side{&r.client, &r.server} {
		if !side.does(opReset) && !side.does(opCut) {
			side.add(op{kind: opEnd})
		}
	}
	return r
}

// add appends an op that makes sense where it stands.
func (s *side) add(o op) {
	ended := s.does(opEnd)
	switch {
	case s.does(opReset), s.does(opCut):
	case o.kind == opSend && (ended || s.total()+o.n > maxStream):
	case (o.kind == opEnd || o.kind == opCut) && ended:
	default:
		s.ops = append(s.ops, o)
	}
}

// outcome is what one end saw.
type outcome struct {
	got      []byte
	readErr  error // io.EOF for a clean end
	writeErr error // of the op that failed; those after it were left out
}

// clean reports whether the end saw the other end in order. The kernel tells a reset once: if a write was told, the read sees
// an end of stream.
func (o outcome) clean() bool { return o.readErr == io.EOF && o.writeErr == nil }

// relayOutcome is what both ends saw.
type relayOutcome struct {
	client, server outcome
	hung           string
}

// relayRig is a path that many schedules run over, one at a time. A client's stream begins with the number of its run, by
// which the service knows what to do.
type relayRig struct {
	*path
	up, down []byte // what is sent
	runs     atomic.Uint64

	mu      sync.Mutex
	current map[uint64]*relayRun
}

type relayRun struct {
	script  relayScript
	started chan struct{} // the service knows of it
	ended   chan outcome  // what the service saw; capacity 1
}

const headLen = 8

func newRelayRig(t testing.TB) *relayRig {
	t.Helper()
	r := &relayRig{up: pattern('u', maxStream), down: pattern('d', maxStream), current: make(map[uint64]*relayRun)}
	r.path = newPath(t, meshsim.CAConfig{}, services{
		{"plain", func(c meshsim.Conn) { r.serve(c, "") }, 0},
		{"speaks-first", func(c meshsim.Conn) { r.serve(c, banner) }, 1},
	})
	t.Cleanup(r.close)
	return r
}

// serve is the service's side of a connection.
func (r *relayRig) serve(c meshsim.Conn, says string) {
	if _, err := io.WriteString(c, says); err != nil {
		return
	}
	var head [headLen]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return // a spare connection that was never used
	}
	r.mu.Lock()
	run := r.current[binary.BigEndian.Uint64(head[:])]
	r.mu.Unlock()
	if run == nil {
		return // bytes were changed under way
	}
	if run.script.fault != (meshsim.FaultPlan{}) {
		r.mesh.Gateway.SetFaultsOf(c.RemoteAddr().String(), run.script.fault)
	}
	close(run.started)
	raw := c.(*tls.Conn).NetConn().(*net.TCPConn)
	_ = raw.SetDeadline(time.Now().Add(patience))
	run.ended <- perform(run.script.server, ends{c, raw}, r.down, run.started)
}

// ends are a connection and the socket beneath it, which may be the same.
type ends struct {
	meshsim.Conn
	raw *net.TCPConn
}

// perform does what the side's ops say with the bytes of content, while it reads to the end.
func perform(s side, c ends, content []byte, started <-chan struct{}) (o outcome) {
	var reading sync.WaitGroup
	reading.Go(func() {
		time.Sleep(s.late) // as the input says
		buf := make([]byte, s.buffer)
		for o.readErr == nil {
			var n int
			n, o.readErr = c.Read(buf)
			o.got = append(o.got, buf[:n]...)
		}
	})
	for _, op := range s.ops {
		switch op.kind {
		case opSend:
			_, o.writeErr = c.Write(content[:op.n])
			content = content[op.n:]
		case opPause:
			time.Sleep(time.Duration(op.n) * 10 * time.Microsecond) // as the input says
		case opEnd:
			o.writeErr = c.CloseWrite()
		case opCut:
			o.writeErr = c.raw.CloseWrite()
		case opReset:
			select { // or nobody would know what became of it
			case <-started:
			case <-time.After(patience):
			}
			_ = c.raw.SetLinger(0)
			_ = c.raw.Close()
		}
		if o.writeErr != nil {
			break
		}
	}
	reading.Wait()
	return o
}

func (r *relayRig) run(s relayScript) (o relayOutcome) {
	run := &relayRun{script: s, started: make(chan struct{}), ended: make(chan outcome, 1)}
	id := r.runs.Add(1)
	r.mu.Lock()
	r.current[id] = run
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.current, id)
		r.mu.Unlock()
	}()

	conn, err := net.DialTimeout("tcp", r.addrs[s.upstream], patience)
	if err != nil {
		o.hung = fmt.Sprintf("connecting: %v", err)
		return o
	}
	c := conn.(*net.TCPConn)
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(binary.BigEndian.AppendUint64(nil, id)); err != nil {
		o.hung = fmt.Sprintf("the first bytes: %v", err)
		return o
	}
	o.client = perform(s.client, ends{c, c}, r.up, run.started)
	select {
	case o.server = <-run.ended:
	case <-time.After(patience):
		o.hung = "the service's connection does not end"
	}
	var timeout net.Error
	for _, end := range []outcome{o.client, o.server} {
		if errors.As(errors.Join(end.readErr, end.writeErr), &timeout) && timeout.Timeout() {
			o.hung = "a connection does not end"
		}
	}
	return o
}

// check holds what both ends saw against what both did.
func (o relayOutcome) check(t *testing.T, s relayScript) {
	t.Helper()
	if o.hung != "" {
		t.Errorf("%s", o.hung)
	}
	up, down := pattern('u', maxStream)[:s.client.total()], pattern('d', maxStream)[:s.server.total()]
	if s.upstream == 1 {
		down = append([]byte(banner), down...)
	}
	unharmed := s.fault.Up == s.fault.Down // the network did nothing to the bytes
	for _, d := range []struct {
		name         string
		from, to     side
		sent         []byte
		got          outcome
		sender       outcome
		mayLookClean bool // to this receiver, although it was cut
	}{
		// crypto/tls takes a bare FIN between two records for a clean end, and the service is crypto/tls.
		{"up", s.client, s.server, up, o.server, o.client, s.fault.Down.Kind == meshsim.CutBytes},
		{"down", s.server, s.client, down, o.client, o.server, false},
	} {
		if !bytes.HasPrefix(d.sent, d.got.got) {
			t.Errorf("%s: %d bytes arrived that are no prefix of the %d sent", d.name, len(d.got.got), len(d.sent))
		}
		all := len(d.got.got) == len(d.sent)
		if d.got.clean() && !d.mayLookClean && (!d.from.does(opEnd) || !all) {
			t.Errorf("%s: a clean end after %d of %d bytes; the sender's end: %v, its error: %v", d.name, len(d.got.got), len(d.sent), d.from.does(opEnd), d.sender.writeErr)
		}
		if !unharmed || d.to.does(opReset) || d.from.does(opReset) {
			continue
		}
		// A service that ends without a byte may be one that denies: the function sees a reset then (R9).
		denied := len(down) == 0
		switch {
		case denied:
		case d.from.does(opCut):
			if !all || d.got.clean() {
				t.Errorf("%s: cut after %d bytes, %d arrived and then %v", d.name, len(d.sent), len(d.got.got), d.got.readErr)
			}
		case d.to.does(opCut):
		case !all || !d.got.clean():
			t.Errorf("%s: nobody broke it, but %d of %d bytes arrived and then %v, %v", d.name, len(d.got.got), len(d.sent), d.got.readErr, d.got.writeErr)
		}
	}
	if t.Failed() {
		t.Logf("the schedule: %+v", s)
	}
}
