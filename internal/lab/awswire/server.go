// SPDX-License-Identifier: MPL-2.0

package awswire

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/simhttp"
)

// maxBody bounds a request. The largest legal one that any service here takes, a PutParameter of 8,192 bytes with every
// byte escaped, is far below it.
const maxBody = 1 << 20

// Config says where to listen and what to serve. Read must be set.
type Config struct {
	// Addr is the address to listen on. Empty: 127.0.0.1 and a free port.
	Addr string
	// Account is resolved by Start.
	Account Account
	// Read says what a request asks for. It is called by many goroutines and must not block.
	Read func(r *http.Request, body []byte) Request
}

// A Request is what a service makes of an HTTP request.
type Request struct {
	// Op is the operation's name. Faults, latencies and counts go by it.
	Op string
	// Name is what the request is about; faults can go by it.
	Name string
	// Page is which page of a listing is asked for, from 1 on. Zero: not a listing.
	Page int
	// Action is what IAM calls the operation, "ssm:GetParameter", and Resource the ARN that it judges. Empty: none.
	Action, Resource string
	// Service is what a signature must be scoped to, "ssm".
	Service string
	// Protocol is how answers are written.
	Protocol Protocol
	// Refuse, unless nil, is the answer to what is not a request of the service at all, whatever faults are planned.
	Refuse *Failure
	// Status is that of success. Zero: 200, or 204 for an answer without a body.
	Status int
	// Do does what was asked, once, and returns what the protocol is to encode; nil for an answer without a body.
	Do func() (any, *Failure)
	// Failed, unless nil, is told of the failure with which the request is answered.
	Failed func(*Failure)
}

// A Server answers for the services of one account in one region. All its methods may be called at any time from any
// goroutine.
type Server struct {
	account Account
	read    func(r *http.Request, body []byte) Request
	http    *simhttp.Server

	mu         sync.Mutex
	calls      []Call
	flying     map[string]int           // requests under way, by operation, "" for all
	peak       map[string]int           // the highest that flying has been
	latency    map[string]time.Duration // by operation, "" for all
	faults     []*plannedFault
	principals []Principal // empty: anybody
}

// Start listens and serves until Close.
func Start(cfg Config) (*Server, error) {
	srv, err := simhttp.Listen(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	s := &Server{
		account: cfg.Account.Resolve(),
		read:    cfg.Read,
		http:    srv,
		flying:  make(map[string]int),
		peak:    make(map[string]int),
		latency: make(map[string]time.Duration),
	}
	srv.Serve(http.HandlerFunc(s.serveHTTP))
	return s, nil
}

// URL is the server's endpoint, for AWS_ENDPOINT_URL_ and the service's name.
func (s *Server) URL() string { return "http://" + s.http.Addr() }

// Close ends every connection and waits for the server's goroutines.
func (s *Server) Close() { s.http.Close() }

// An Exchange is one request and the way to answer it, as faults see them.
type Exchange struct {
	Request
	Call    Call
	Account Account

	s *Server
	w http.ResponseWriter
	r *http.Request
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // the client gave up, or sent what no client sends
	}
	x := &Exchange{Request: s.read(r, body), Account: s.account, s: s, w: w, r: r}
	x.Call = Call{Op: x.Op, Name: x.Name, At: time.Now(), AccessKeyID: accessKeyID(r), RemoteAddr: r.RemoteAddr}
	fault, latency := s.record(x)
	defer s.gave(x.Op)
	if !s.http.Sleep(r, latency) {
		return
	}
	switch {
	case x.Refuse != nil:
		x.write(x.Protocol.failure(x.Refuse))
	case fault != nil:
		fault(x)
	default:
		x.answer()
	}
}

// record notes the call and decides what happens to it.
func (s *Server) record(x *Exchange) (fault func(*Exchange), latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, x.Call)
	s.took(x.Op)
	latency, ok := s.latency[x.Op]
	if !ok {
		latency = s.latency[""]
	}
	return s.faultFor(&x.Request), latency
}

func (x *Exchange) answer() { x.write(x.outcome()) }

// outcome does what was asked, authentication first, as AWS does it.
func (x *Exchange) outcome() response {
	if f := x.authenticate(); f != nil {
		return x.failure(f)
	}
	out, f := x.Do()
	if f != nil {
		return x.failure(f)
	}
	return x.Protocol.success(out, x.Status)
}

func (x *Exchange) failure(f *Failure) response {
	if x.Failed != nil {
		x.Failed(f)
	}
	return x.Protocol.failure(f)
}

func (x *Exchange) write(r response) {
	h := x.w.Header()
	h.Set("X-Amzn-RequestId", r.requestID)
	if r.contentType != "" {
		h.Set("Content-Type", r.contentType)
	}
	if r.errorType != "" {
		h.Set("X-Amzn-ErrorType", r.errorType)
	}
	if r.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(r.body)))
	}
	x.w.WriteHeader(r.status)
	_, _ = x.w.Write(r.body) // the client may be gone; there is nobody to tell
}
