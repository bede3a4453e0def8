// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/simhttp"
)

const (
	// maxBody is Consul's limit of a transaction and of a key's value: what Raft
	// suggests for one log entry (kv_max_value_size, txn_max_req_len).
	maxBody = 512 << 10
	// firstIndex is where a store starts: a fresh Consul has written a few
	// entries of its own, and 0 and 1 mean something else to a blocking query.
	firstIndex = 10
	version    = "1.22.5"
)

// Config says which cluster the server plays. Its zero value is an open
// community-edition Consul of one datacenter.
type Config struct {
	// Addr is the address to listen on. Empty: 127.0.0.1 and a free port.
	Addr string
	// Datacenters of the federation. The first is the local and the primary one.
	// Empty: only the CA's.
	Datacenters []string
	// CA signs leaves and is listed as the roots. Nil: one of its own.
	CA *meshsim.CA
	// NodeName is the agent's own node. Empty: "consul-server".
	NodeName string
	// Enterprise honours namespaces and partitions. False: they are refused, as
	// the community edition does.
	Enterprise bool
	// Servers is how many agents, each with leaves of its own, take turns behind
	// the address. Zero or less: 1.
	Servers int
	// Now is the clock by which leaves are made and grow old. Nil: time.Now.
	Now func() time.Time
	// CSRPerSecond limits the signing of leaves (csr_max_per_second, 50 in a
	// Consul that is not told otherwise). Zero or less: no limit.
	CSRPerSecond float64
	// Tokens switch ACLs on, with the default policy "deny". Empty: everybody
	// may do everything.
	Tokens []Token
}

// A Server is one Consul address. All its methods may be called at any time
// from any goroutine.
type Server struct {
	cfg  Config // with defaults resolved; not changed after Start
	http *simhttp.Server
	csr  *rate.Limiter // nil: unlimited

	mu     sync.Mutex
	stores []*store // one for each of cfg.Datacenters
	roots  rootList
	leaves []leafCache // one for each of cfg.Servers
	turn   int         // which of them is next
	plan   plan
}

// Start listens and serves until Close.
func Start(cfg Config) (*Server, error) {
	if cfg.CA == nil {
		var ofCA meshsim.CAConfig
		if len(cfg.Datacenters) > 0 {
			ofCA.Datacenter = cfg.Datacenters[0]
		}
		ca, err := meshsim.NewCA(ofCA)
		if err != nil {
			return nil, fmt.Errorf("starting consul: %w", err)
		}
		cfg.CA = ca
	}
	if len(cfg.Datacenters) == 0 {
		cfg.Datacenters = []string{cfg.CA.Datacenter()}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Datacenters = slices.Clone(cfg.Datacenters)
	cfg.NodeName = cmp.Or(cfg.NodeName, "consul-server")
	cfg.Servers = max(cfg.Servers, 1)
	cfg.Tokens = slices.Clone(cfg.Tokens)

	srv, err := simhttp.Listen(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("starting consul: %w", err)
	}
	s := &Server{
		cfg:    cfg,
		http:   srv,
		leaves: make([]leafCache, cfg.Servers),
		plan:   newPlan(),
	}
	if cfg.CSRPerSecond > 0 {
		s.csr = rate.NewLimiter(rate.Limit(cfg.CSRPerSecond), 1)
	}
	for i := range s.leaves {
		s.leaves[i] = make(leafCache)
	}
	for _, dc := range cfg.Datacenters {
		s.stores = append(s.stores, s.newStore(dc))
	}
	srv.Serve(s.mux())
	return s, nil
}

// Addr is the server's host and port, for CONSUL_HTTP_ADDR.
func (s *Server) Addr() string { return s.http.Addr() }

// CA is the authority behind roots and leaves. Rotate and Prune take effect on
// the next request, blocked ones included.
func (s *Server) CA() *meshsim.CA { return s.cfg.CA }

// Close ends every connection and waits for the server's goroutines.
func (s *Server) Close() { s.http.Close() }

// exchange is one request and the way to answer it.
type exchange struct {
	s      *Server
	w      http.ResponseWriter
	r      *http.Request
	route  *route
	query  url.Values
	body   []byte
	header http.Header // of the answer
}

// reply is a whole answer, ready to be sent.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// raw is an answer that is not JSON.
type raw struct {
	status      int
	contentType string // "": none
	body        []byte
}

// failure is an error answer: a status and a line of plain text.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

// failed is what Consul answers to an error that has no status of its own: 500.
func failed(format string, args ...any) error {
	return &failure{http.StatusInternalServerError, fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) error {
	return &failure{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func (s *Server) serveHTTP(rt *route, w http.ResponseWriter, r *http.Request) {
	// One byte more than is allowed, so that an operation can refuse it.
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return // the client gave up
	}
	x := &exchange{s: s, w: w, r: r, route: rt, query: r.URL.Query(), body: body, header: make(http.Header)}
	fault, latency := s.record(Call{
		Op: rt.op, Name: x.subject(), Datacenter: x.datacenter(), At: time.Now(), RemoteAddr: r.RemoteAddr,
	})
	if !x.sleep(latency) {
		return
	}
	if fault != nil {
		fault(x)
		return
	}
	x.send(x.outcome())
}

// subject is what the request is about, for the record: the name in the path,
// or the one in the body.
func (x *exchange) subject() string {
	if name := x.r.PathValue("name"); name != "" {
		return name
	}
	var in struct {
		Name, Node, ServiceID string
		Service               struct{ ID, Service string }
	}
	_ = json.Unmarshal(x.body, &in) // of no use to others than the reader of Calls
	return cmp.Or(in.Name, in.ServiceID, in.Service.ID, in.Service.Service, in.Node)
}

// outcome does what was asked.
func (x *exchange) outcome() *reply {
	if len(x.s.cfg.Tokens) == 0 {
		x.header.Set("X-Consul-Default-ACL-Policy", "allow")
	} else {
		x.header.Set("X-Consul-Default-ACL-Policy", "deny")
	}
	if len(x.body) > maxBody {
		return x.failure(&failure{http.StatusRequestEntityTooLarge,
			fmt.Sprintf("Request body too large, max size: %d bytes.", maxBody)})
	}
	if idx := x.query.Get("index"); idx != "" {
		if _, err := strconv.ParseUint(idx, 10, 64); err != nil {
			return x.failure(badRequest("Invalid index"))
		}
	}
	out, err := x.call()
	if err != nil {
		return x.failure(err)
	}
	if r, ok := out.(raw); ok {
		if r.contentType != "" {
			x.header.Set("Content-Type", r.contentType)
		}
		return &reply{r.status, x.header, r.body}
	}
	x.header.Set("Content-Type", "application/json")
	return &reply{http.StatusOK, x.header, marshal(out)}
}

// call runs the operation, with mu held unless the route waits for something.
func (x *exchange) call() (any, error) {
	if !x.route.waits {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
	}
	return x.route.serve(x)
}

func (x *exchange) failure(err error) *reply {
	status := http.StatusInternalServerError
	if f := (*failure)(nil); errors.As(err, &f) {
		status = f.status
	}
	x.header.Set("Content-Type", "text/plain; charset=utf-8")
	return &reply{status, x.header, []byte(err.Error())}
}

func (x *exchange) send(r *reply) {
	h := x.w.Header()
	for k, v := range r.header {
		h[k] = v
	}
	h.Set("Content-Length", strconv.Itoa(len(r.body)))
	x.w.WriteHeader(r.status)
	_, _ = x.w.Write(r.body) // the client may be gone; there is nobody to tell
}

// meta sets the headers of a read. An index of 0 would make a blocking client
// spin, so Consul says 1 instead.
func (x *exchange) meta(index uint64) {
	x.header.Set("X-Consul-Index", strconv.FormatUint(max(index, 1), 10))
	x.header.Set("X-Consul-KnownLeader", "true")
	x.header.Set("X-Consul-LastContact", "0")
	x.header.Set("X-Consul-Effective-Consistency", "leader")
}

// filtered says in a header that ACLs hid something.
func (x *exchange) filtered(hidden bool) {
	if hidden {
		x.header.Set("X-Consul-Results-Filtered-By-ACLs", "true")
	}
}

// sleep waits for d. It returns false if the client or the server left.
func (x *exchange) sleep(d time.Duration) bool { return x.s.http.Sleep(x.r, d) }

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("consulsim: answer cannot be encoded: %v", err)) // all are plain data
	}
	return b
}
