// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

func newSidecar(t testing.TB, ca *CA, cfg SidecarConfig) *Sidecar {
	t.Helper()
	cfg.CA, cfg.ID = ca, serviceID(t, ca, "web")
	s, err := NewSidecar(cfg)
	ok(t, err)
	t.Cleanup(func() { ok(t, s.Close()) })
	return s
}

// use finishes a handshake and a round trip, which in TLS 1.3 is when a client
// learns that it was refused.
func use(t testing.TB, s *Sidecar, cfg *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	c, err := dialTLS(t, s.Addr(), cfg)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "x"); err != nil {
		return c.ConnectionState(), err
	}
	var one [1]byte
	_, err = io.ReadFull(c, one[:])
	return c.ConnectionState(), err
}

// R1, from the other side: a sidecar does not let bad clients in either.
func TestSidecarAdmitsOnlySoundClients(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{})
	s := newSidecar(t, ca, SidecarConfig{})
	for _, flaw := range append(Flaws(), Sound) {
		if flaw == OtherIdentity {
			continue // as sound as the other for a client; intentions tell them apart
		}
		_, err := use(t, s, clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{Flaw: flaw})))
		if (err == nil) != (flaw == Sound) {
			t.Errorf("%v client: %v", flaw, err)
		}
	}
	anonymous := clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{}))
	anonymous.Certificates = nil
	if _, err := use(t, s, anonymous); err == nil {
		t.Error("client without a certificate let in")
	}
	// Seven flaws and the anonymous client; a client may know before the sidecar.
	waittest.Until(t, "all are counted", func() bool {
		st := s.Stats()
		return st.Handshakes == 1 && st.Accepted == 1 && st.HandshakesFailed == 8
	})
}

func TestSidecarShowsTheFlawAskedFor(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{})
	for _, flaw := range Flaws() {
		s := newSidecar(t, ca, SidecarConfig{Leaf: LeafOptions{Flaw: flaw}})
		cfg := clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{}))
		strict := cfg.VerifyConnection
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates[0].URIs) != 1 {
				return errors.New("not one URI name")
			}
			return strict(cs)
		}
		if _, err := use(t, s, cfg); err == nil {
			t.Errorf("%v sidecar believed", flaw)
		}
	}
}

func TestSidecarResumesSessionsUnlessToldNotTo(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, noTickets := range []bool{false, true} {
			s := newSidecar(t, ca, SidecarConfig{TLSVersion: version, NoTickets: noTickets})
			cfg := clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{}))
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			for i := range 2 {
				cs, err := use(t, s, cfg)
				ok(t, err)
				if cs.Version != version {
					t.Errorf("spoke %s, want %s", tls.VersionName(cs.Version), tls.VersionName(version))
				}
				if want := i == 1 && !noTickets; cs.DidResume != want {
					t.Errorf("%s, no tickets %v, connection %d: resumed %v", tls.VersionName(version), noTickets, i, cs.DidResume)
				}
			}
			st := s.Stats()
			if st.Handshakes != 2 || (st.Resumed == 1) == noTickets {
				t.Errorf("stats %+v", st)
			}
			if n := st.Clients[issuedSerial(cfg)]; n != 2 || len(st.Clients) != 1 {
				t.Errorf("clients %v", st.Clients)
			}
			// A root more must not cost the tickets, a new leaf does.
			ok(t, ca.Rotate())
			if cs, err := use(t, s, cfg); err != nil || cs.DidResume == noTickets {
				t.Errorf("after a rotation: resumed %v, %v", cs.DidResume, err)
			}
			cfg.VerifyConnection = verifyServer(ca.RootsPool(), s.ID())
			ok(t, s.Reload())
			if cs, err := use(t, s, cfg); err != nil || cs.DidResume {
				t.Errorf("after a reload: resumed %v, %v", cs.DidResume, err)
			}
		}
	}
}

func issuedSerial(cfg *tls.Config) string { return serialOf(cfg.Certificates[0].Leaf) }

// R2: the order of events in a real rotation, seen from a sidecar.
func TestSidecarFollowsARotation(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{NoCrossSign: true})
	s := newSidecar(t, ca, SidecarConfig{})
	old := clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{}))
	shown := s.Leaf().Serial()

	ok(t, ca.Rotate())
	renewed := clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{}))
	for _, cfg := range []*tls.Config{old, renewed} {
		cs, err := use(t, s, cfg)
		ok(t, err)
		if got := serialOf(cs.PeerCertificates[0]); got != shown {
			t.Errorf("leaf changed to %s without Reload", got)
		}
	}
	ok(t, s.Reload())
	if _, err := use(t, s, old); err == nil {
		t.Error("a client with the old roots only accepted the new leaf")
	}
	cs, err := use(t, s, renewed)
	ok(t, err)
	if serialOf(cs.PeerCertificates[0]) == shown {
		t.Error("still the old leaf after Reload")
	}
	ca.Prune()
	old.VerifyConnection = renewed.VerifyConnection
	if _, err := use(t, s, old); err == nil {
		t.Error("a leaf of the dropped root was let in")
	}
	_, err = use(t, s, renewed)
	ok(t, err)
}

// D5 of the facts: the handshake succeeds, then the end is orderly.
func TestDeniedClientSeesAnOrderlyEndAfterTheHandshake(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{})
	for _, at := range []DenyAt{DenyOnConnect, DenyOnFirstByte} {
		s := newSidecar(t, ca, SidecarConfig{Handler: Banner("hello"), DenyAt: at, TLSVersion: tls.VersionTLS12})
		cfg := clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{}))
		s.Intentions().Set(serviceID(t, ca, "caller"), Deny)

		tap := &wireTap{Conn: dialRaw(t, s.Addr())}
		c, err := handshake(t, tap, cfg)
		ok(t, err)
		heard := "hello"
		if at == DenyOnConnect {
			heard = ""
		}
		greeting := make([]byte, len(heard))
		_, err = io.ReadFull(c, greeting)
		ok(t, err)
		if at == DenyOnFirstByte {
			_, err = io.WriteString(c, "x")
			ok(t, err)
		}
		rest, err := io.ReadAll(c)
		ok(t, err)
		if string(greeting) != heard || len(rest) != 0 || !tap.sawAlert() {
			t.Errorf("at %d: heard %q, then %q, close_notify %v", at, greeting, rest, tap.sawAlert())
		}
		waittest.Until(t, "denied is counted", func() bool { return s.Stats().Denied == 1 })

		s.Intentions().Set(serviceID(t, ca, "caller"), Allow)
		if _, err := use(t, s, cfg); err != nil {
			t.Errorf("after the change of mind: %v", err)
		}
	}
}

func TestSidecarDropsConnectionsInTheWayAsked(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{})
	for _, how := range []End{EndNotify, EndFIN, EndRST} {
		s := newSidecar(t, ca, SidecarConfig{TLSVersion: tls.VersionTLS12})
		tap := &wireTap{Conn: dialRaw(t, s.Addr())}
		c, err := handshake(t, tap, clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{})))
		ok(t, err)
		roundTrip(t, c, "up")
		if n := s.Drop(how); n != 1 {
			t.Errorf("dropped %d", n)
		}
		var one [1]byte
		_, err = c.Read(one[:])
		if isReset(err) != (how == EndRST) || tap.sawAlert() != (how == EndNotify) {
			t.Errorf("how %d: %v, close_notify %v", how, err, tap.sawAlert())
		}
		_ = c.Close()
		waittest.Until(t, "the connection is gone", func() bool { return s.Stats().Open == 0 })
	}
}

// A peer's roots vouch for the peer's names, not for ours.
func TestTrustedPeerCannotSpeakForAnotherTrustDomain(t *testing.T) {
	t.Parallel()
	ours, peers := newCA(t, CAConfig{}), newCA(t, CAConfig{TrustDomain: "peer.consul"})
	s := newSidecar(t, ours, SidecarConfig{})
	good := clientConfig(t, ours, "web", issue(t, peers, "caller", LeafOptions{}))
	if _, err := use(t, s, good); err == nil {
		t.Error("peer let in before it was trusted")
	}
	s.Trust(peers)
	_, err := use(t, s, good)
	ok(t, err)
	forged, err := peers.Issue(serviceID(t, ours, "caller"), LeafOptions{})
	ok(t, err)
	if _, err := use(t, s, clientConfig(t, ours, "web", forged)); err == nil {
		t.Error("peer's leaf with a name of ours let in")
	}
	_, err = use(t, s, clientConfig(t, ours, "web", issue(t, ours, "caller", LeafOptions{})))
	ok(t, err)
}

func TestHandlerCanBeChangedForNewConnections(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	s := addService(t, m, "web", nil)
	old := connect(t, m, "web")
	roundTrip(t, old, "echo")
	s.SetHandler(Source(3))
	roundTrip(t, old, "still an echo")
	ok(t, samePattern(connect(t, m, "web"), 3))
}

// A client that reads nothing must not keep the sidecar from ending.
func TestDropIsNotHeldUpByAStuckWriter(t *testing.T) {
	t.Parallel()
	ca := newCA(t, CAConfig{})
	for _, how := range []End{EndNotify, EndFIN, EndRST} {
		s := newSidecar(t, ca, SidecarConfig{Handler: Source(1 << 40)})
		c, err := dialTLS(t, s.Addr(), clientConfig(t, ca, "web", issue(t, ca, "caller", LeafOptions{})))
		ok(t, err)
		waittest.Until(t, "the client is served", func() bool { return s.Stats().Accepted == 1 })
		s.Drop(how)
		ok(t, s.Close())
		_ = c.Close()
	}
}

// Rotation, reloads, handshakes and changes of mind all at once: for the race detector.
func TestEverythingMayHappenAtOnce(t *testing.T) {
	t.Parallel()
	m := newMesh(t, Config{})
	s := addService(t, m, "web", nil)
	in := s.Intentions()
	caller := serviceID(t, m.CA, "nobody")
	cfg := clientConfig(t, m.CA, "web", issue(t, m.CA, "caller", LeafOptions{}))
	cfg.VerifyConnection = nil // two rotations may go by during one handshake
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if err := callOnce(m.Gateway.Addr(), cfg); err != nil {
					t.Error(err)
				}
				if _, err := m.CA.Issue(caller, LeafOptions{}); err != nil {
					t.Error(err)
				}
				in.Set(caller, Deny)
				_ = s.Stats()
				_ = m.Gateway.Stats()
			}
		})
	}
	for range 5 {
		ok(t, m.Rotate())
		in.Unset(caller)
	}
	wg.Wait()
}

// callOnce finishes a handshake and closes.
func callOnce(addr string, cfg *tls.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
