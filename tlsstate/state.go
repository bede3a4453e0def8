// SPDX-License-Identifier: MPL-2.0

package tlsstate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
	"github.com/consul-lambda/consul-lambda/internal/clock"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// Source reads the current credential document.
//
// If reading fails, or what was read cannot be used, the existing snapshot stays in use. A Source need not retry: its
// caller does. The returned bytes are the caller's.
type Source interface {
	Fetch(ctx context.Context) ([]byte, error)
}

// Config says what to trust and how to reach it. Upstreams, Gateways and Source are needed; the zero value of the rest
// is a sensible default. Of a duration, less than zero is zero.
type Config struct {
	// Upstreams are what may be dialled, by their index.
	Upstreams []mesh.Upstream

	// Gateways are the mesh gateways, each "host:port" with a name or an address as host. At least one.
	Gateways []string

	// Source is where the credential document is read.
	Source Source

	// Refresh is how old the document may grow before it is read again. Default 5 minutes.
	Refresh time.Duration

	// Spares is how many spare connections each upstream has, by its index; 0, or no entry, means none.
	Spares []int

	// SpareMaxIdle is the age up to which a spare connection is used. Default 60 s.
	SpareMaxIdle time.Duration

	// NoResumption makes every handshake a full one.
	NoResumption bool

	// Buffers lends the read-ahead buffers. Default: a pool without a budget.
	Buffers *bufpool.Pool

	// Clock is read for every decision on time. Default: the system's.
	Clock clock.Clock

	// Resolver looks up the gateways' names. Default: the system's.
	Resolver Resolver

	// Logger gets one line per new snapshot and per failed refresh. Default: none.
	Logger *slog.Logger

	// OnHandshake is told how long each handshake took that made a connection, spare ones' included. Nil: nobody is. It must
	// be quick.
	OnHandshake func(took time.Duration)
}

// State holds the current snapshot, and the spare connections that were made with it. Make one with [New]; whoever does calls Run
// once, and Close at the end. It is safe for concurrent use.
type State struct {
	source   Source
	settings settings
	bufs     *bufpool.Pool
	gateways *gateways
	log      *slog.Logger

	spares []*spares // one per upstream, nil for none
	stats  counters
	shook  func(time.Duration) // Config.OnHandshake

	current atomic.Pointer[Snapshot]
	refresh refresher

	mu      sync.Mutex    // guards what follows
	changed chan struct{} // closed and replaced when current was swapped
}

// New checks the configuration, and begins nothing: see [State.Run]. The error names a source or gateway that is missing or wrong.
func New(cfg Config) (*State, error) {
	if cfg.Source == nil {
		return nil, errors.New("tlsstate: no source")
	}
	gws, err := newGateways(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Refresh <= 0 {
		cfg.Refresh = 5 * time.Minute
	}
	if cfg.SpareMaxIdle <= 0 {
		cfg.SpareMaxIdle = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Buffers == nil {
		cfg.Buffers = new(bufpool.Pool)
	}
	s := &State{
		source:   cfg.Source,
		settings: settings{upstreams: cfg.Upstreams, gateways: len(cfg.Gateways), resumption: !cfg.NoResumption, clock: cfg.Clock},
		bufs:     cfg.Buffers,
		gateways: gws,
		log:      cfg.Logger,
		shook:    cfg.OnHandshake,
		changed:  make(chan struct{}),
	}
	s.refresh.init(cfg.Refresh)
	s.spares = make([]*spares, len(cfg.Upstreams))
	for i, want := range cfg.Spares {
		if want > 0 {
			s.spares[i] = newSpares(sparesConfig{
				want: want, maxIdle: cfg.SpareMaxIdle, clock: cfg.Clock, log: cfg.Logger,
				dial: func(ctx context.Context) (*Conn, error) { return s.dialSpare(ctx, i) },
			})
		}
	}
	return s, nil
}

// Snapshot returns the current snapshot, or nil if there is none yet. It may have expired.
func (s *State) Snapshot() *Snapshot { return s.current.Load() }

// Ready waits for a snapshot that is valid now, and returns it. A document that is due to be read again is asked for on
// the way, in the background as long as the one in hand is valid (R14). The error is ErrNoCredentials, with what stands
// in the way, once ctx ends.
func (s *State) Ready(ctx context.Context) (*Snapshot, error) {
	if snap := s.usable(); snap != nil {
		return snap, nil
	}
	for {
		changed := s.changes() // before looking again, so that no swap is missed
		if snap := s.usable(); snap != nil {
			return snap, nil
		}
		s.refresh.poke()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, s.noCredentials()
		}
	}
}

// usable returns the current snapshot if it is valid now. It takes no lock and allocates nothing (R3).
func (s *State) usable() *Snapshot {
	now := s.settings.clock.Now()
	snap := s.current.Load()
	if !snap.validAt(now.Wall()) {
		return nil
	}
	s.refresh.pokeIfDue(now)
	return snap
}

// changes returns a channel that is closed at the next swap.
func (s *State) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *State) noCredentials() error {
	err := ErrNoCredentials
	if snap := s.current.Load(); snap != nil {
		err = fmt.Errorf("%w: the leaf expired at %s", err, snap.notAfter.Format(time.RFC3339))
	}
	if cause := s.refresh.lastError(); cause != nil {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return fmt.Errorf("%w: the store has not answered yet", err)
}

// WarmUp opens the spare connections of all upstreams and returns when they are there, could not be opened, or ctx ends.
// What it began goes on after that.
func (s *State) WarmUp(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range s.spares {
		if p != nil {
			all.Go(func() { p.warmUp(ctx) })
		}
	}
	all.Wait()
}

// Close ends the spare connections, waits until they have ended, for 5 s at the most (see [Conn.Close]), and opens no more. A
// look-up under way is told to end and not waited for: when it notices is the Resolver's. Connections that were handed out are
// their owners'.
func (s *State) Close() {
	for _, p := range s.spares {
		if p != nil {
			p.close()
		}
	}
	s.gateways.cancel()
}

// update makes the document the current snapshot. An unchanged document changes nothing, and is an error only if its
// leaf has expired. Only the refresher calls it, one call at a time.
func (s *State) update(data []byte) error {
	doc, err := mesh.ParseDocument(data)
	if err != nil {
		return fmt.Errorf("credential document: %w", err)
	}
	canonical, err := doc.Encode()
	if err != nil {
		return fmt.Errorf("credential document: %w", err)
	}
	digest := sha256.Sum256(canonical)
	old := s.current.Load()
	if old != nil && old.digest == digest && old.validAt(s.settings.clock.Now().Wall()) {
		return nil
	}
	snap, warnings, err := newSnapshot(doc, s.settings)
	if err != nil {
		return fmt.Errorf("credential document: %w", err)
	}
	snap.digest = digest
	snap.generation = 1
	if old != nil {
		snap.generation = old.generation + 1
	}

	s.current.Store(snap)
	for _, p := range s.spares {
		if p != nil {
			p.replace(snap.generation)
		}
	}
	s.mu.Lock()
	close(s.changed) // last: a dial that waited for this finds the spare that waited for it too
	s.changed = make(chan struct{})
	s.mu.Unlock()

	s.log.Info("credentials in use", "credentials", snap)
	for _, w := range warnings {
		s.log.Warn("credential document is incomplete", "error", w)
	}
	return nil
}
