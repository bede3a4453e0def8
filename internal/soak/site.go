// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
)

// The services of a site.
const (
	spared  = "spared"  // a spare connection is kept for it
	dialled = "dialled" // each connection is dialled when it is needed
	banner  = "banner"  // speaks first: greeting; then as the others
	web     = "http"    // HTTP/1.1
)

const greeting = "220 ready\r\n"

// upstreams are the services for CONSUL_SERVICE_UPSTREAMS.
const upstreams = spared + ":7101," + dialled + ":7102," + banner + ":7103," + web + ":7104"

// site is the applications behind the mesh. They do what a call's first line asks for, and check every byte that comes.
type site struct {
	mu     sync.Mutex
	open   map[uint64]visit
	seen   map[uint64]bool  // calls that have arrived here
	ended  map[uint64]error // how calls of kind late have ended here
	faulty []string         // what must never be
	tooFew []incident
}

// incident is a clean end that the function never made. The lab's sidecars take a bare FIN between two records for one, so
// that a fault which cuts so answers for it; the extension must not be its cause.
type incident struct {
	call
	at time.Time
	n  int64 // bytes that had come
}

// visit is a call that is being served.
type visit struct {
	call
	peer string // the gateway's address, as the sidecar sees it
}

// newSite adds the services to a world.
func newSite(w *lab.World) (*site, error) {
	s := &site{open: make(map[uint64]visit), seen: make(map[uint64]bool), ended: make(map[uint64]error)}
	for i, handler := range []meshsim.Handler{s.serve, s.serve, s.greet, meshsim.HTTP(http.HandlerFunc(s.serveHTTP))} {
		name := []string{spared, dialled, banner, web}[i]
		if _, err := w.AddService(name, 7101+i, meshsim.SidecarConfig{Handler: handler}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *site) greet(c meshsim.Conn) {
	if _, err := io.WriteString(c, greeting); err == nil {
		s.serve(c)
	}
}

// serve is the application behind the services that are not HTTP. It reads to the end of what the function sends.
func (s *site) serve(c meshsim.Conn) {
	in := bufio.NewReaderSize(c, 4<<10)
	line, err := in.ReadString('\n')
	if err != nil {
		return // a spare connection, or a call that ended before it began
	}
	call, err := parseCall(line)
	if err != nil {
		s.blame("a first line that nobody sent: %q", line)
		return
	}
	s.enter(visit{call, c.RemoteAddr().String()})
	defer s.leave(call.id)
	switch call.kind {
	case echo:
		if s.receive(call, io.TeeReader(in, c)) == nil {
			_ = c.CloseWrite()
		}
	case digest, abort:
		sum := sha256.New()
		if s.receive(call, io.TeeReader(in, sum)) == nil {
			_, _ = io.WriteString(c, hex.EncodeToString(sum.Sum(nil)))
			_ = c.CloseWrite()
		}
	case answer:
		if s.receive(call, in) == nil && call.send(c, call.down, answers) == nil {
			_ = c.CloseWrite()
		}
	case source:
		if call.send(c, call.down, answers) == nil {
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, in)
		}
	case late:
		_, err := io.WriteString(c, greeting)
		if err == nil {
			err = c.CloseWrite()
		}
		if err == nil {
			err = s.receive(call, in)
		}
		s.mu.Lock()
		s.ended[call.id] = err
		s.mu.Unlock()
	}
}

// serveHTTP answers with the bytes that the path asks for, and its digest of the request's body.
func (s *site) serveHTTP(rw http.ResponseWriter, r *http.Request) {
	call, err := parseCall(r.Header.Get("Call") + "\n")
	if err != nil {
		s.blame("a request that nobody sent: %v", err)
		return
	}
	s.enter(visit{call, r.RemoteAddr})
	defer s.leave(call.id)
	if s.receive(call, r.Body) != nil {
		panic(http.ErrAbortHandler)
	}
	rw.Header().Set("Content-Length", strconv.FormatInt(call.down, 10))
	_ = call.send(rw, call.down, answers)
}

// receive reads what the function sends to its end. A wrong byte, or an end that the function never made, is blamed.
func (s *site) receive(c call, r io.Reader) error {
	want := newChecker(c.id, requests)
	n, err := io.Copy(want, r)
	switch {
	case errors.Is(err, errWrong):
		s.blame("call %s: the service got a wrong byte within %d", c, n)
	case err == nil && n != c.up:
		// R5, the other way round: what the function cut must not look complete to the service.
		err = io.ErrUnexpectedEOF
		s.mu.Lock()
		s.tooFew = append(s.tooFew, incident{c, time.Now(), n})
		s.mu.Unlock()
	}
	return err
}

func (s *site) enter(v visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[v.id] = v
	s.seen[v.id] = true
}

// reached reports whether the call has arrived here. It is asked once.
func (s *site) reached(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen[id]
	delete(s.seen, id)
	return seen
}

func (s *site) leave(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
}

// visits returns the calls of that kind that are being served.
func (s *site) visits(kinds ...kind) (all []visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.open {
		for _, k := range kinds {
			if v.kind == k {
				all = append(all, v)
			}
		}
	}
	return all
}

// fate returns how a call of kind late has ended here, once it has.
func (s *site) fate(id uint64) (known bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err, known = s.ended[id]
	delete(s.ended, id)
	return known, err
}

func (s *site) blame(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faulty) < 100 {
		s.faulty = append(s.faulty, time.Now().UTC().Format(time.TimeOnly)+" "+fmt.Sprintf(format, args...))
	}
}

// blamed returns what was seen here that must never be.
func (s *site) blamed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.faulty...)
}

// incidents returns those since it was asked last.
func (s *site) incidents() []incident {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.tooFew
	s.tooFew = nil
	return all
}

// The two streams of a call.
const (
	requests byte = 1 + iota
	answers
)

// newBody returns the bytes of one stream of a call, without end: no other stream has the same.
func newBody(id uint64, stream byte) *rand.ChaCha8 {
	seed := [32]byte{stream}
	for i := range 8 {
		seed[1+i] = byte(id >> (8 * i))
	}
	return rand.NewChaCha8(seed)
}

var errWrong = errors.New("a wrong byte")

// checker is written what arrived, and wants the bytes of a stream.
type checker struct {
	body *rand.ChaCha8
	want []byte
	n    int64
}

func newChecker(id uint64, stream byte) *checker {
	return &checker{body: newBody(id, stream), want: make([]byte, 0, 4<<10)}
}

func (c *checker) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		want := c.want[:min(cap(c.want), len(p)-done)]
		_, _ = c.body.Read(want) // never fails
		for i, b := range want {
			if p[done+i] != b {
				return done + i, errWrong
			}
		}
		done += len(want)
		c.n += int64(len(want))
	}
	return len(p), nil
}
