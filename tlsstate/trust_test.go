// SPDX-License-Identifier: MPL-2.0

package tlsstate_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/certtest"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// R2: while a rotation lasts, leaves of the old root and of the new one are good, without either vouching for the other.
// The predecessor knew the first root of the document only.
func TestLeavesUnderEitherRootAreAcceptedInARotation(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t, meshsim.CAConfig{NoCrossSign: true})
	web, db := id(t, ca, "web"), id(t, ca, "db")
	oldLeaf := ca.Leaf(t, web)
	ca.Rotate(t)
	newLeaf := ca.Leaf(t, db)
	doc := ca.Doc(t, certtest.Service(t, "fn"))
	for i, leaf := range []*meshsim.Leaf{oldLeaf, newLeaf} {
		w := start(t, storeOf(t, doc), tlsstate.Config{
			Upstreams: upstreams(t, "web:8080,db:8081"),
			Gateways:  []string{destination(t, serverConfig(leaf))},
		})
		w.dial(t, i)
	}
}

// R2: a root that is gone from the document is gone at once: for new handshakes and for sessions that began under it.
func TestDroppedRootEndsTrustAndSessions(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		ca := certtest.NewCA(t, meshsim.CAConfig{NoCrossSign: true})
		cfg := serverConfig(ca.Leaf(t, id(t, ca, "web"))) // and never another one
		cfg.MinVersion, cfg.MaxVersion = version, version
		w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{destination(t, cfg)}})
		w.dial(t, 0)

		ca.Rotate(t)
		w.swap(t, ca.Doc(t, certtest.Service(t, "fn")))
		w.dial(t, 0) // both roots
		if !w.dial(t, 0).Resumed() {
			t.Fatal("no session to resume")
		}
		ca.Prune()
		w.swap(t, ca.Doc(t, certtest.Service(t, "fn"))) // the new root only
		for range 2 {
			if err := w.refused(t, 0); !isUnknownAuthority(err) {
				t.Errorf("under a root that was dropped: %v", err)
			}
		}
	})
}

// R2: what a session vouches for is what was checked when it began, so that each snapshot begins without one.
func TestSessionsEndWithTheirSnapshot(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, version uint16) {
		ca := certtest.NewCA(t)
		cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
		cfg.MinVersion, cfg.MaxVersion = version, version
		w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{Gateways: []string{destination(t, cfg)}})
		for generation := uint64(1); generation <= 3; generation++ {
			for i := range 3 {
				c := w.dial(t, 0)
				if got, want := c.Resumed(), i > 0; got != want {
					t.Errorf("connection %d of generation %d: resumed is %v, want %v", i, generation, got, want)
				}
				if c.Generation() != generation {
					t.Errorf("generation %d, want %d", c.Generation(), generation)
				}
			}
			w.swap(t, ca.Doc(t, certtest.Service(t, "fn"))) // the same roots, another leaf
		}
	})
}

// R2: a ticket of one upstream is not shown to another, nor that of one gateway to another.
func TestSessionsArePerUpstreamAndGateway(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	cfg := serverConfig(ca.Leaf(t, id(t, ca, "web"))) // one configuration: any of its servers could resume any session
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{
		Upstreams: upstreams(t, "web:8080,web:8081"),
		Gateways:  []string{destination(t, cfg), destination(t, cfg)},
	})
	type way struct {
		gateway  string
		upstream int
	}
	known := make(map[way]bool)
	for _, step := range []struct{ gateway, upstream int }{{0, 0}, {0, 0}, {0, 1}, {1, 0}, {0, 0}, {1, 0}, {0, 1}, {1, 1}} {
		w.SetFirst(step.gateway)
		c := w.dial(t, step.upstream)
		used := way{c.RemoteAddr().String(), step.upstream} // on a busy machine not always the first
		if c.Resumed() != known[used] {
			t.Errorf("%+v: resumed is %v", used, c.Resumed())
		}
		known[used] = true
	}
	if len(known) != 4 {
		t.Errorf("only the ways %v were used", known)
	}
}

// R3: an unchanged document is the same snapshot, with its sessions, however it is spelled.
func TestUnchangedDocumentMakesNoNewGeneration(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	doc := certtest.Encode(t, ca.Doc(t, certtest.Service(t, "fn")))
	var fields map[string]any
	if err := json.Unmarshal(doc, &fields); err != nil {
		t.Fatal(err)
	}
	fields["someFieldOfTheFuture"] = true
	respelled, err := json.MarshalIndent(fields, " ", "\t") // in alphabetical order, with space, and more escapes
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, storeOf(t, ca.Doc(t, certtest.Service(t, "fn"))), tlsstate.Config{})
	w.store.put(doc)
	first := w.ready(t)
	for _, same := range [][]byte{doc, respelled} {
		w.store.put(same)
		w.readAgain(t)
		w.readAgain(t) // so that the first of them is done
		if w.Snapshot() != first {
			t.Errorf("the document was read again and became generation %d", w.Snapshot().Generation())
		}
	}
	if n := w.log.Count("credentials in use"); n != 1 {
		t.Errorf("%d lines say that credentials are in use, want 1", n)
	}
}

// R3: each connection belongs to one snapshot, leaf and generation, while documents are swapped every millisecond.
func TestDialsSeeOneSnapshotWhileDocumentsAreSwapped(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	var docs [2][]byte
	var serials [2]string
	for i := range docs {
		doc := ca.Doc(t, certtest.Service(t, "fn"))
		pair, err := tls.X509KeyPair([]byte(doc.CertPEM), []byte(doc.PrivateKeyPEM))
		if err != nil {
			t.Fatal(err)
		}
		docs[i], serials[i] = certtest.Encode(t, doc), pair.Leaf.SerialNumber.Text(16)
	}
	cfg := serverConfig(ca.Leaf(t, id(t, ca, "web")))
	gateway := listen(t, "127.0.0.1:0", func(raw net.Conn) {
		c := tls.Server(raw, cfg)
		if c.Handshake() == nil {
			_, _ = io.WriteString(c, c.ConnectionState().PeerCertificates[0].SerialNumber.Text(16))
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}
	})
	state, err := tlsstate.New(tlsstate.Config{Upstreams: upstreams(t, "web:8080"), Gateways: []string{gateway}, Source: new(store)})
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Update(docs[1]); err != nil { // odd generations have document 1
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dialOnce := func() error {
		c, err := state.Dial(context.WithoutCancel(ctx), 0)
		if err != nil {
			return err
		}
		defer c.Reset()
		_ = c.SetDeadline(time.Now().Add(patience))
		serial, err := io.ReadAll(c)
		if want := serials[c.Generation()%2]; err != nil || string(serial) != want {
			return fmt.Errorf("generation %d showed leaf %s (error %s); its leaf is %s", c.Generation(), serial, fmt.Sprint(err), want)
		}
		return nil
	}
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for ctx.Err() == nil {
				if err := dialOnce(); err != nil {
					t.Error(err)
					return
				}
			}
		})
		users.Go(func() {
			last := uint64(0)
			for ctx.Err() == nil {
				snap := state.Usable()
				if snap == nil || snap.Generation() < last {
					t.Errorf("after generation %d came %+v", last, snap)
					return
				}
				last = snap.Generation()
				time.Sleep(50 * time.Microsecond) // the dials want the processor too
			}
		})
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	n := uint64(1)
	for ; n < 300 && ctx.Err() == nil; <-tick.C {
		if n++; state.Update(docs[n%2]) != nil {
			t.Error("a document was refused")
		}
	}
	cancel()
	users.Wait()
	if got := state.Snapshot().Generation(); got != n || n < 300 {
		t.Errorf("generation %d after %d documents", got, n)
	}
}

// R2: what is bad among the roots is left out and told; what is good serves.
func TestOneBadRootAmongGoodOnesIsToldAndLeftOut(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t)
	peer := certtest.NewCA(t, meshsim.CAConfig{TrustDomain: "peer.consul", Datacenter: "dc9"})
	for name, bad := range map[string]func(good string) string{
		"first": func(good string) string { return badCertificate + good },
		"last":  func(good string) string { return good + badCertificate },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := ca.Doc(t, certtest.Service(t, "fn"))
			doc.RootCertPEM = bad(doc.RootCertPEM)
			w := start(t, storeOf(t, doc), tlsstate.Config{Gateways: []string{destination(t, serverConfig(ca.Leaf(t, id(t, ca, "web"))))}})
			w.dial(t, 0)
			w.readAgain(t)
			if n := w.log.Count(`"level":"WARN"`); n != 1 || w.log.Count("rootCertPEM") != 1 {
				t.Errorf("%d warnings, want one that names rootCertPEM:\n%s", n, w.log)
			}
		})
		t.Run(name+" of a peer", func(t *testing.T) {
			t.Parallel()
			doc := ca.Doc(t, certtest.Service(t, "fn"))
			p := peer.Peer("east", "we-there")
			p.RootCertPEM = bad(p.RootCertPEM)
			doc.Peers = []mesh.DocumentPeer{p}
			w := start(t, storeOf(t, doc), tlsstate.Config{
				Upstreams: upstreams(t, "web.svc.east.peer:8080,db.svc.east.peer:8081"),
				Gateways:  []string{destination(t, serverConfig(peer.Leaf(t, id(t, peer, "web"))))},
			})
			w.dial(t, 0)
			w.readAgain(t)
			if n := w.log.Count(`"level":"WARN"`); n != 1 || w.log.Count("rootCertPEM of peer east") != 1 {
				t.Errorf("%d warnings, want one that names the peer's rootCertPEM:\n%s", n, w.log)
			}
		})
	}
}

// badCertificate is a PEM block that holds no certificate.
const badCertificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
