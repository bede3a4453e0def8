// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
)

// The mesh changes its root while a function calls: Consul's agent gives each sidecar a leaf under the new root at a moment of its own
// within 30 s, and the function's follows with the registrator's next run and the extension's next refresh. Whatever pair of old and
// new meets, the call is answered (R2, R3, G8); intentions go on denying what they deny.
func TestARotationOfTheRootFailsNoCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, consulproc.Config{LeafTTL: 10 * time.Minute}) // the shortest that Consul treats as it treats longer ones
	w.aws.AddFunction("checkout", enabled())
	w.allow(t, "web", "checkout")
	w.allow(t, "records", "checkout")
	w.allow(t, "shut", "nobody")
	proxies := []*consulproc.Proxy{w.destination(t, "web", web(t, "web")), w.destination(t, "records", echo(t, nil))}
	w.destination(t, "shut", web(t, "shut"))
	r := w.registrator(t, nil)
	r.run(t)
	before := w.document(t, "checkout")
	// No spares, and each call of `records` a new connection: old and new leaves meet as often as can be.
	f := w.function(t, "checkout", "web:8080,shut:8081,records:7001", env{"CONSUL_EXTENSION_WARM_CONNECTIONS": "0"})

	traffic := w.traffic(t, f)
	traffic.more(t, 100)
	w.rotate(t)
	traffic.more(t, 100)
	if result := r.run(t); result.Renewed != 1 {
		t.Errorf("after the rotation the run did %+v", result)
	}
	after := w.document(t, "checkout")
	if old, now := blocks(before.RootCertPEM), blocks(after.RootCertPEM); len(old) != 1 || len(now) != 2 || !strings.Contains(after.RootCertPEM, old[0]) {
		t.Errorf("the document has %d roots, before it had %d: want both", len(now), len(old))
	}
	waittest.NoError(t, func(context.Context) error {
		if n := count(f.Logs(), `"credentials in use"`); n < 2 {
			return fmt.Errorf("the extension has used %d sets of credentials", n)
		}
		return nil
	})
	traffic.more(t, 100)
	// Until both sidecars show leaves under the new root.
	admin := leaf(t, w.admin, "onlooker")
	for _, p := range proxies {
		waittest.NoError(t, func(ctx context.Context) error { return w.shows(ctx, p.Addr(), admin) })
	}
	traffic.more(t, 100)
	web, records, denied := traffic.stop()
	t.Logf("answered: %d HTTP calls and %d TCP connections; denied: %d", web, records, denied)

	// What is in order is left alone.
	puts := w.store.Count("PutParameter")
	if again := r.run(t); changes(again) != 0 || w.store.Count("PutParameter") != puts {
		t.Errorf("the next run did %+v", again)
	}
}

// rotate gives Consul's CA a new key, and with it a new root.
func (w *world) rotate(t testing.TB) {
	t.Helper()
	old, _, err := w.admin.Connect().CARoots(nil)
	ok(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	ok(t, err)
	config, _, err := w.admin.Connect().CAGetConfig(nil)
	ok(t, err)
	config.Config["PrivateKey"] = string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	config.Config["RootCert"] = ""
	_, err = w.admin.Connect().CASetConfig(config, nil)
	ok(t, err)
	now, _, err := w.admin.Connect().CARoots(nil)
	ok(t, err)
	if now.ActiveRootID == old.ActiveRootID || len(now.Roots) != len(old.Roots)+1 {
		t.Fatalf("a rotation left the active root at %s, of %d", now.ActiveRootID, len(now.Roots))
	}
}

// shows says nil if the sidecar's leaf chains to the active root and needs no other.
func (w *world) shows(ctx context.Context, addr string, me tls.Certificate) error {
	list, _, err := w.admin.Connect().CARoots((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return err
	}
	active := x509.NewCertPool()
	for _, r := range list.Roots {
		if r.Active {
			active.AppendCertsFromPEM([]byte(r.RootCertPEM))
		}
	}
	dialer := &tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{me},
		InsecureSkipVerify: true, // the chain is checked below, a leaf has no name
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: active})
			return err
		},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err == nil {
		conn.Close()
	}
	return err
}

// blocks are the PEM blocks of a text.
func blocks(text string) (all []string) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		all = append(all, string(pem.EncodeToMemory(block)))
	}
}

// count is the number of the extension's lines with the text.
func count(lines []lambdasim.Line, text string) (n int) {
	for _, l := range lines {
		if strings.Contains(l.Text, text) {
			n++
		}
	}
	return n
}

// traffic are calls of web and records that must succeed, and of shut that must not, one after the other and both kinds at a time.
type traffic struct {
	testing.TB
	f                    aFunction
	done                 context.CancelFunc
	work                 sync.WaitGroup
	pace                 *rate.Limiter // of each kind: the machine has more to do
	web, records, denied atomic.Int64
}

func (w *world) traffic(t testing.TB, f aFunction) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{TB: t, f: f, done: cancel, pace: rate.NewLimiter(80, 1)}
	tr.work.Go(func() { tr.overHTTP(ctx) })
	tr.work.Go(func() { tr.overTCP(ctx) })
	t.Cleanup(func() { tr.stop() })
	return tr
}

func (tr *traffic) overHTTP(ctx context.Context) {
	for tr.pace.Wait(ctx) == nil {
		e := event{Calls: []call{{"http://" + tr.f.addr(8080) + "/"}, {"http://" + tr.f.addr(8081) + "/"}}, Repeat: 5, Parallel: 2}
		answers, err := tr.f.invoke(tr.Context(), e)
		if err != nil {
			tr.Errorf("an invocation failed: %v", err)
			return
		}
		for _, a := range answers {
			switch shut := strings.Contains(a.Upstream, ":8081"); {
			case shut && a.Error == "":
				tr.Errorf("a denied call was answered: %+v", a)
			case shut:
				tr.denied.Add(1)
			case a.Body != "web":
				tr.Errorf("HTTP call %d: %+v", tr.web.Load(), a)
			default:
				tr.web.Add(1)
			}
		}
	}
}

func (tr *traffic) overTCP(ctx context.Context) {
	for tr.pace.Wait(ctx) == nil {
		if err := tr.f.say(ctx, 7001, "a line"); err != nil && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
			tr.Errorf("TCP connection %d: %v", tr.records.Load(), err)
		} else if err == nil {
			tr.records.Add(1)
		}
	}
}

// more waits until n more calls of each kind were answered.
func (tr *traffic) more(t testing.TB, n int64) {
	t.Helper()
	web, records := tr.web.Load()+n, tr.records.Load()+n
	waittest.NoError(t, func(context.Context) error {
		if tr.web.Load() < web || tr.records.Load() < records {
			return fmt.Errorf("answered %d and %d, want %d and %d", tr.web.Load(), tr.records.Load(), web, records)
		}
		return nil
	})
}

// stop ends the traffic and says how many calls there were of each kind.
func (tr *traffic) stop() (web, records, denied int64) {
	tr.done()
	tr.work.Wait()
	return tr.web.Load(), tr.records.Load(), tr.denied.Load()
}
