// SPDX-License-Identifier: MPL-2.0

package ssmsim

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxBody bounds a request. The largest legal one, a PutParameter of 8,192
// bytes with every byte escaped, is far below it.
const maxBody = 1 << 20

// Config says which account the server plays. Its zero value works.
type Config struct {
	// Addr is the address to listen on. Empty: 127.0.0.1 and a free port.
	Addr string
	// Region is part of ARNs, and what a signature must be scoped to once
	// RequireAuth is set. Empty: us-east-1.
	Region string
	// AccountID is part of ARNs. Empty: 123456789012.
	AccountID string
}

// Call is one request as it arrived. Values are not part of it.
type Call struct {
	// Op is the operation, "GetParameter".
	Op string
	// Name is the parameter's name, the path of GetParametersByPath, or the
	// first of several names; as the client sent it.
	Name string
	// At is when the request had been read.
	At time.Time
	// AccessKeyID is from the request's signature, "" if it has none.
	AccessKeyID string
	// RemoteAddr tells connections of the client apart.
	RemoteAddr string
}

// A Server is one account's Parameter Store in one region. All its methods may
// be called at any time from any goroutine.
type Server struct {
	region, account string
	listener        net.Listener
	http            *http.Server
	served          chan struct{}  // closed when the accept loop has ended
	done            chan struct{}  // closed by Close
	handlers        sync.WaitGroup // requests being answered
	closeOnce       sync.Once

	mu        sync.Mutex
	closed    bool
	params    map[string]*parameter
	calls     []Call
	latency   map[string]time.Duration // by operation, "" for all
	reads     *rate.Limiter            // Get*; nil: unlimited
	writes    *rate.Limiter            // PutParameter; nil: unlimited
	faults    []*plannedFault
	gate      chan struct{} // closed and replaced by Release
	principal []Principal   // empty: anybody
}

// Start listens and serves until Close.
func Start(cfg Config) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", cmp.Or(cfg.Addr, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("starting parameter store: %w", err)
	}
	s := &Server{
		region:   cmp.Or(cfg.Region, "us-east-1"),
		account:  cmp.Or(cfg.AccountID, "123456789012"),
		listener: l,
		served:   make(chan struct{}),
		done:     make(chan struct{}),
		params:   make(map[string]*parameter),
		latency:  make(map[string]time.Duration),
		gate:     make(chan struct{}),
	}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go s.serve()
	return s, nil
}

func (s *Server) serve() {
	defer close(s.served)
	_ = s.http.Serve(s.listener) // always http.ErrServerClosed, from Close
}

// URL is the server's endpoint, for AWS_ENDPOINT_URL_SSM.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close ends every connection and waits for the server's goroutines.
func (s *Server) Close() {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		_ = s.http.Close() // first, so that nobody who wakes up can still answer
		close(s.done)
	})
	<-s.served
	s.handlers.Wait()
}

// Calls returns every request since Start or ResetCalls, oldest first.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Count is the number of requests for op since Start or ResetCalls; of all
// requests if op is "".
func (s *Server) Count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if op == "" || c.Op == op {
			n++
		}
	}
	return n
}

// ResetCalls forgets the recorded requests.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// input has the members of every operation's request that the server knows.
type input struct {
	Name             string
	Names            []string
	Path             string
	Value            *string
	Type             string
	Tier             string
	KeyID            string `json:"KeyId"`
	Overwrite        bool
	Recursive        bool
	WithDecryption   bool
	MaxResults       *int
	NextToken        string
	ParameterFilters []filter
}

// filter is a ParameterStringFilter.
type filter struct {
	Key    string
	Option string
	Values []string
}

// failure is an error answer. A nil *failure is success.
type failure struct {
	status  int
	code    string // with its namespace, "com.amazonaws.ssm#ParameterNotFound"
	message string
}

// ssmFailure is an error of the service's own model, coralFailure one of the
// layer that all AWS services share. Both are answered with HTTP 400.
func ssmFailure(code, message string) *failure {
	return &failure{http.StatusBadRequest, "com.amazonaws.ssm#" + code, message}
}

func coralFailure(code, message string) *failure {
	return &failure{http.StatusBadRequest, "com.amazon.coral.service#" + code, message}
}

func invalid(format string, args ...any) *failure {
	return coralFailure("ValidationException", fmt.Sprintf(format, args...))
}

// exchange is one request and the way to answer it.
type exchange struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	call Call
	in   input
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler) // a plain return would be an empty answer
	}
	defer s.handlers.Done()

	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // the client gave up, or sent what no client sends
	}
	x := &exchange{s: s, w: w, r: r}
	op, known := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonSSM.")
	decodeErr := json.Unmarshal(body, &x.in)
	x.call = Call{
		Op:          op,
		Name:        x.in.firstName(),
		At:          time.Now(),
		AccessKeyID: parseAuthorization(r.Header.Get("Authorization")).accessKeyID,
		RemoteAddr:  r.RemoteAddr,
	}
	fault, latency := s.record(x.call)
	if !x.sleep(latency) {
		return
	}
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/" || !known:
		x.fail(coralFailure("UnknownOperationException", ""))
	case decodeErr != nil:
		x.fail(coralFailure("SerializationException", ""))
	case fault != nil:
		fault(x)
	default:
		x.answer()
	}
}

// enter counts a handler in, unless the server is closing: WaitGroup.Add must
// not race with Close's Wait.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handlers.Add(1)
	return true
}

func (in *input) firstName() string {
	switch {
	case in.Name != "":
		return in.Name
	case len(in.Names) > 0:
		return in.Names[0]
	default:
		return in.Path
	}
}

// answer does what was asked: authentication, throttling, then the operation,
// in the order in which AWS does them.
func (x *exchange) answer() {
	out, f := x.outcome()
	if f != nil {
		x.fail(f)
		return
	}
	x.reply(http.StatusOK, "", marshal(out))
}

func (x *exchange) outcome() (any, *failure) {
	s := x.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.authenticate(x.r, x.call.At); f != nil {
		return nil, f
	}
	if !s.admit(x.call.Op) {
		return nil, throttled
	}
	switch x.call.Op {
	case "GetParameter":
		return s.getParameter(&x.in)
	case "GetParameters":
		return s.getParameters(&x.in)
	case "GetParametersByPath":
		return s.getParametersByPath(&x.in)
	case "DescribeParameters":
		return s.describeParameters(&x.in)
	case "PutParameter":
		return s.putParameter(&x.in)
	case "DeleteParameter":
		return s.deleteParameter(&x.in)
	case "DeleteParameters":
		return s.deleteParameters(&x.in)
	}
	return nil, coralFailure("UnknownOperationException", "")
}

// fail answers with an error. The code goes into a header and into the body,
// as SSM does it; an error without a message has no such member.
func (x *exchange) fail(f *failure) {
	x.reply(f.status, f.code, marshal(struct {
		Type    string `json:"__type"`
		Message string `json:"message,omitempty"`
	}{f.code, f.message}))
}

func (x *exchange) reply(status int, code string, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", "application/x-amz-json-1.1")
	h.Set("X-Amzn-RequestId", requestID())
	if code != "" {
		_, short, _ := strings.Cut(code, "#")
		h.Set("X-Amzn-ErrorType", short)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // the client may be gone; there is nobody to tell
}

// sleep waits for d. It returns false if the client or the server left.
func (x *exchange) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.r.Context().Done():
	case <-x.s.done:
	}
	return false
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own structs of strings and numbers come here
	}
	return b
}

func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
