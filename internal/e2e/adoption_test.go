// SPDX-License-Identifier: MPL-2.0

package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
	"github.com/consul-lambda/consul-lambda/internal/waittest"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// predecessorDocument is what the predecessor's extension reads, and its registrator wrote.
type predecessorDocument struct {
	PrivateKeyPEM string `json:"privateKeyPEM"`
	CertPEM       string `json:"certPEM"`
	RootCertPEM   string `json:"rootCertPEM"`
	TrustDomain   string `json:"trustDomain"`
	Peers         []struct {
		Name        string `json:"name"`
		TrustDomain string `json:"trustDomain"`
	} `json:"peers"`
}

// leavePredecessor makes the catalog, the service-defaults and the parameters of functions what the predecessor's registrator leaves.
func (w *world) leavePredecessor(t testing.TB, functions ...string) {
	t.Helper()
	roots, _, err := w.admin.Connect().CARoots(nil)
	ok(t, err)
	for _, name := range functions {
		_, err := w.admin.Catalog().Register(&api.CatalogRegistration{
			Node: node, Address: "127.0.0.1", SkipNodeUpdate: false,
			NodeMeta: map[string]string{"external-node": "true", "external-probe": "true"},
			Service:  &api.AgentService{ID: name, Service: name, Tags: []string{registrator.ServiceTag}},
		}, nil)
		ok(t, err)
		_, _, err = w.admin.ConfigEntries().Set(&api.ServiceConfigEntry{
			Kind: api.ServiceDefaults, Name: name, Protocol: "http",
			EnvoyExtensions: []api.EnvoyExtension{{Name: api.BuiltinAWSLambdaExtension, Arguments: map[string]any{
				"ARN": w.aws.ARN(name), "PayloadPassthrough": false, "InvocationMode": "ASYNCHRONOUS",
			}}},
		}, nil)
		ok(t, err)
		l, _, err := w.admin.Agent().ConnectCALeaf(name, nil)
		ok(t, err)
		text, err := json.Marshal(predecessorDocument{
			PrivateKeyPEM: l.PrivateKeyPEM, CertPEM: l.CertPEM, RootCertPEM: roots.Roots[0].RootCertPEM, TrustDomain: roots.TrustDomain,
		})
		ok(t, err)
		w.store.Put(dataPrefix+"/default/default/"+name, string(text))
	}
}

// Who comes from the predecessor changes two packages and nothing else: what it registered stays registered, throughout, and becomes
// ours (G5); a function that is running goes on with the document that it has read and takes ours at its next refresh.
func TestWhatThePredecessorLeftIsAdoptedWithoutAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, consulproc.Config{})
	names := []string{"checkout", "orders", "mailer"}
	for _, name := range names {
		w.aws.AddFunction(name, enabled("invocation-mode", "ASYNCHRONOUS"))
	}
	w.leavePredecessor(t, names...)
	w.allow(t, "web", "checkout")
	w.destination(t, "web", web(t, "web"))
	f := w.function(t, "checkout", "web:8080", nil)
	if got := f.get(t, 8080); got.Body != "web" {
		t.Fatalf("with the predecessor's document: %+v", got)
	}

	watch := w.watch(t, names...)
	watch.looks(t, 5)
	r := w.registrator(t, nil)
	result := r.run(t)
	watch.looks(t, 5)
	t.Logf("%d looks at the catalog during the run", watch.stop())
	if result.Updated != len(names) || changes(result) != len(names) {
		t.Errorf("the run did %+v", result)
	}
	for _, name := range names {
		e := w.entry(t, name)
		args := e.EnvoyExtensions[0].Arguments
		if e.Protocol != "http" || len(e.EnvoyExtensions) != 1 || args["ARN"] != w.aws.ARN(name) || args["InvocationMode"] != "asynchronous" {
			t.Errorf("the entry of %s is %+v", name, e) // Consul takes the upper-case mode for synchronous
		}
		if at := w.instances(t, name); len(at) != 1 || len(at[0].ServiceMeta) == 0 {
			t.Errorf("%s is registered as %+v", name, at)
		}
	}
	if again := r.run(t); changes(again) != 0 {
		t.Errorf("a second run did %+v", again) // G1
	}
	// It reads the store anew. What it finds has the same leaf and roots, so nothing else happens (R3).
	reads := w.store.Count("GetParameter")
	waittest.NoError(t, func(context.Context) error {
		if n := w.store.Count("GetParameter"); n < reads+2 {
			return errors.New("the extension does not read the store")
		}
		return nil
	})
	if n := count(f.Logs(), `"level":"WARN"`) + count(f.Logs(), `"level":"ERROR"`); n > 0 {
		t.Errorf("the extension complained %d times", n)
	}
	if got := f.get(t, 8080); got.Body != "web" {
		t.Errorf("with our document: %+v", got)
	}
}

// Who goes back finds documents that the predecessor's extension reads: its fields, and PEM of which it takes the first block.
func TestOurDocumentsAreReadByThePredecessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, consulproc.Config{})
	w.aws.AddFunction("checkout", enabled())
	r := w.registrator(t, nil)
	r.run(t)
	for _, roots := range []int{1, 2} {
		p, _ := w.store.Get(dataPrefix + "/default/default/checkout")
		var doc predecessorDocument
		ok(t, json.Unmarshal([]byte(p.Value), &doc))
		pair, err := tls.X509KeyPair([]byte(doc.CertPEM), []byte(doc.PrivateKeyPEM))
		ok(t, err)
		if id := pair.Leaf.URIs[0].String(); id != "spiffe://"+doc.TrustDomain+"/ns/default/dc/dc1/svc/checkout" {
			t.Errorf("the leaf names %s", id)
		}
		for _, text := range []string{doc.RootCertPEM, doc.CertPEM, doc.PrivateKeyPEM} {
			if block, _ := pem.Decode([]byte(text)); block == nil {
				t.Error("a field of the document does not begin with PEM")
			}
		}
		if n := len(blocks(doc.RootCertPEM)); n != roots {
			t.Errorf("the document has %d roots, want %d", n, roots)
		}
		if roots == 1 {
			w.rotate(t)
			r.run(t)
		}
	}
}

// watcher looks, over and over, whether services are there.
type watcher struct {
	done context.CancelFunc
	work sync.WaitGroup

	mu sync.Mutex
	n  int
}

func (w *world) watch(t testing.TB, services ...string) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	v := &watcher{done: cancel}
	v.work.Go(func() {
		for ctx.Err() == nil {
			if err := w.all(ctx, services); err != nil && ctx.Err() == nil {
				t.Error("an outage: ", err)
				return
			}
			v.mu.Lock()
			v.n++
			v.mu.Unlock()
		}
	})
	t.Cleanup(func() { v.stop() })
	return v
}

// all says nil if each service is in the catalog, with service-defaults that invoke its function.
func (w *world) all(ctx context.Context, services []string) error {
	for _, name := range services {
		at, _, err := w.admin.Catalog().Service(name, registrator.ServiceTag, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		e, _, err := w.admin.ConfigEntries().Get(api.ServiceDefaults, name, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		entry, _ := e.(*api.ServiceConfigEntry)
		if len(at) != 1 || entry == nil || len(entry.EnvoyExtensions) != 1 || entry.EnvoyExtensions[0].Arguments["ARN"] != w.aws.ARN(name) {
			return fmt.Errorf("service %s: %d instances, entry %+v", name, len(at), entry)
		}
	}
	return nil
}

// looks waits for that many more.
func (v *watcher) looks(t testing.TB, more int) {
	t.Helper()
	seen := func() int {
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.n
	}
	until := seen() + more
	waittest.NoError(t, func(context.Context) error {
		if seen() < until {
			return errors.New("nobody looks")
		}
		return nil
	})
}

func (v *watcher) stop() int {
	v.done()
	v.work.Wait()
	return v.n
}
