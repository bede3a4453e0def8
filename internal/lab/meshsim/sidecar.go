// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// handshakeTimeout bounds a sidecar's handshake; it is that of Consul's built-in proxy.
const handshakeTimeout = 10 * time.Second

// DenyAt is the moment at which a sidecar acts on a denied intention. Either
// way the handshake has succeeded by then, and the end is close_notify, then FIN.
type DenyAt int

const (
	// DenyOnConnect closes right after the handshake.
	DenyOnConnect DenyAt = iota

	// DenyOnFirstByte closes when the client's first byte, or its end of
	// stream, arrives. So does Envoy's network RBAC filter as Consul configures
	// it (enforcement ONE_TIME_ON_FIRST_BYTE, evaluated in onData; the close
	// goes through SSL_shutdown). Until then the application is connected: one
	// that speaks first is heard by a denied client.
	DenyOnFirstByte
)

// SidecarConfig describes a [Sidecar]. CA and ID are required, all else has a
// zero value that works.
type SidecarConfig struct {
	CA         *CA         // issues the sidecar's leaf; its roots vouch for clients
	ID         mesh.ID     // the identity to show
	Handler    Handler     // nil: [Echo]
	Leaf       LeafOptions // of the leaf to show, for bad ones
	Intentions *Intentions // nil: allows all
	DenyAt     DenyAt
	TLSVersion uint16   // the only version spoken, as in crypto/tls; 0: 1.2 and 1.3
	NoTickets  bool     // hand out no session tickets
	NextProtos []string // ALPN; nil: none, as Consul does for tcp services
	Log        *slog.Logger
}

// Sidecar is a destination of the mesh: it terminates mutual TLS on a loopback
// port and hands the plain stream to its handler. It is safe for concurrent use.
type Sidecar struct {
	cfg    SidecarConfig
	ln     *net.TCPListener
	log    *slog.Logger
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	handler Handler
	trusted map[string]*CA // by trust domain
	trust   uint64         // sum of the generations that config was built from
	leaf    *Leaf
	config  *tls.Config
	conns   map[*sidecarConn]struct{}
	stats   SidecarStats
}

// SidecarStats counts since the sidecar was made, but for Open.
type SidecarStats struct {
	Handshakes       int64            // finished, resumed ones too
	Resumed          int64            // of these
	HandshakesFailed int64            // the client gave up, or was not believed
	Accepted         int64            // let in by the intentions
	Denied           int64            // turned away by them
	Open             int              // accepted on TCP and not closed yet
	Clients          map[string]int64 // handshakes by serial number of the client's leaf, in hexadecimal
}

// NewSidecar issues a leaf and listens on 127.0.0.1.
func NewSidecar(cfg SidecarConfig) (*Sidecar, error) {
	if cfg.Handler == nil {
		cfg.Handler = Echo
	}
	if cfg.Intentions == nil {
		cfg.Intentions = new(Intentions)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sidecar{
		cfg:     cfg,
		log:     cfg.Log,
		handler: cfg.Handler,
		trusted: map[string]*CA{cfg.CA.TrustDomain(): cfg.CA},
		conns:   make(map[*sidecarConn]struct{}),
		stats:   SidecarStats{Clients: make(map[string]int64)},
	}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	ln, err := listen("")
	if err != nil {
		return nil, err
	}
	s.ln = ln
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.wg.Add(1)
	go s.acceptLoop(ctx)
	return s, nil
}

// Addr returns "host:port".
func (s *Sidecar) Addr() string { return s.ln.Addr().String() }

// ID returns the identity that the sidecar was made for.
func (s *Sidecar) ID() mesh.ID { return s.cfg.ID }

// Intentions returns what decides who may connect.
func (s *Sidecar) Intentions() *Intentions { return s.cfg.Intentions }

// Leaf returns the leaf that new handshakes show.
func (s *Sidecar) Leaf() *Leaf {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaf
}

// Stats returns a copy of the counters.
func (s *Sidecar) Stats() SidecarStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Open = len(s.conns)
	st.Clients = maps.Clone(st.Clients)
	return st
}

// SetHandler changes what new connections get.
func (s *Sidecar) SetHandler(h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

// Trust lets clients of another cluster in, as a peering does. Each identity
// is believed under the roots of its own trust domain only.
func (s *Sidecar) Trust(peer *CA) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusted[peer.TrustDomain()] = peer
}

// Reload asks the CA for a new leaf and shows it from the next handshake on.
// Session tickets handed out before are void, as they are when Envoy makes a
// new TLS context. If it fails, the sidecar goes on with what it has.
func (s *Sidecar) Reload() error {
	leaf, err := s.cfg.CA.Issue(s.cfg.ID, s.cfg.Leaf)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaf = leaf
	s.config = &tls.Config{
		Certificates:           []tls.Certificate{leaf.Certificate},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: s.cfg.NoTickets,
		NextProtos:             s.cfg.NextProtos,
		VerifyConnection:       s.verifyClient,
	}
	if v := s.cfg.TLSVersion; v != 0 {
		s.config.MinVersion, s.config.MaxVersion = v, v
	}
	s.trust = 0
	return nil
}

// tlsConfig returns the configuration for the next handshake, with the client
// roots of this moment.
func (s *Sidecar) tlsConfig() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	var trust uint64 // generations only grow, so their sum changes when one does
	for _, ca := range s.trusted {
		trust += ca.Generation()
	}
	if trust != s.trust {
		pool := x509.NewCertPool()
		for _, ca := range s.trusted {
			pool.AppendCertsFromPEM([]byte(ca.RootsPEM()))
		}
		c := s.config.Clone() // keeps the ticket keys
		c.ClientCAs = pool
		s.config, s.trust = c, trust
	}
	return s.config
}

// verifyClient checks, on resumed sessions too, that the client has an
// identity and that its own trust domain vouches for it.
func (s *Sidecar) verifyClient(cs tls.ConnectionState) error {
	id, err := clientID(cs)
	if err != nil {
		return err
	}
	s.mu.Lock()
	ca := s.trusted[id.TrustDomain()]
	others := len(s.trusted) > 1
	s.mu.Unlock()
	if ca == nil {
		return fmt.Errorf("meshsim: trust domain %q is not trusted", id.TrustDomain())
	}
	if !others {
		return nil // ClientCAs were the roots of that very domain
	}
	intermediates := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	_, err = cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots:         ca.RootsPool(),
		Intermediates: intermediates,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// clientID returns the one SPIFFE ID of the peer's leaf.
func clientID(cs tls.ConnectionState) (mesh.ID, error) {
	uris := cs.PeerCertificates[0].URIs
	if len(uris) != 1 {
		return mesh.ID{}, fmt.Errorf("meshsim: client leaf has %d URI names, want 1", len(uris))
	}
	return mesh.ParseID(uris[0])
}

// Drop ends every open connection and returns how many there were. EndNotify
// and EndFIN end the sidecar's direction and leave it to the client to close.
func (s *Sidecar) Drop(how End) int {
	s.mu.Lock()
	conns := make([]*sidecarConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.end(how)
	}
	return len(conns)
}

// Close stops listening, resets what is open and waits for the handlers.
func (s *Sidecar) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	err := s.ln.Close()
	s.Drop(EndRST)
	s.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// acceptLoop accepts until the listener is closed. Owner: Close.
func (s *Sidecar) acceptLoop(ctx context.Context) {
	defer s.wg.Done()
	for {
		raw, err := s.ln.AcceptTCP()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.log.Error("sidecar stopped accepting", "err", err)
			}
			return
		}
		c := &sidecarConn{Conn: tls.Server(raw, s.tlsConfig()), raw: raw}
		if !s.track(c) {
			reset(raw)
			return
		}
		go s.serveConn(ctx, c)
	}
}

// track takes note of an open connection, unless the sidecar is closed.
func (s *Sidecar) track(c *sidecarConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *Sidecar) countDenied() { s.count(func(st *SidecarStats) { st.Denied++ }) }

func (s *Sidecar) count(add func(*SidecarStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add(&s.stats)
}
