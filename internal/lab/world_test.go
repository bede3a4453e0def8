// SPDX-License-Identifier: MPL-2.0

package lab_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

func newWorld(t testing.TB, cfg lab.Config) *lab.World {
	t.Helper()
	w, err := lab.New(t.Context(), cfg)
	ok(t, err)
	t.Cleanup(func() { ok(t, w.Close()) })
	return w
}

func document(t testing.TB, w *lab.World) mesh.Document {
	t.Helper()
	p, found := w.Store.Get(w.ParameterPath())
	if !found {
		t.Fatal("the store has no document")
	}
	doc, err := mesh.ParseDocument([]byte(p.Value))
	ok(t, err)
	return doc
}

func TestTheStoreHoldsTheLatestLeafAndAllRoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{FunctionName: "orders"})
	ok(t, w.RotateRoot())
	leaf, err := w.StoreLeaf(time.Minute)
	ok(t, err)
	doc := document(t, w)
	block, _ := pem.Decode([]byte(doc.CertPEM))
	cert, err := x509.ParseCertificate(block.Bytes)
	ok(t, err)
	if cert.SerialNumber.Text(16) != leaf.Serial() || cert.URIs[0].String() != w.FunctionID().String() || !strings.HasSuffix(w.FunctionID().String(), "/svc/orders") {
		t.Errorf("the store has leaf %x of %s", cert.SerialNumber, cert.URIs[0])
	}
	if left := time.Until(cert.NotAfter); left > time.Minute || left < 58*time.Second {
		t.Errorf("the leaf lives %v, want a minute", left)
	}
	if n := strings.Count(doc.RootCertPEM, "-----BEGIN "); n != 2 {
		t.Errorf("the document has %d roots after a rotation, want 2", n)
	}
	if v, _ := w.Store.Get(w.ParameterPath()); v.Value == "" || slices.Contains(w.Secrets(), v.Value) {
		t.Error("Secrets gives whole documents, of which a log would hold parts")
	}
	for _, line := range strings.Split(strings.TrimSpace(doc.PrivateKeyPEM), "\n")[1:3] {
		if !slices.Contains(w.Secrets(), line) {
			t.Error("Secrets leaves a line of the key out")
		}
	}
}

func TestTheFunctionFindsItsWorld(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, lab.Config{}), newWorld(t, lab.Config{})
	if w.Host == other.Host {
		t.Errorf("two worlds share %s", w.Host)
	}
	_, err := w.AddService("more", 7777, meshsim.SidecarConfig{})
	ok(t, err)
	fn := w.Function()
	for name, want := range map[string]string{
		"CONSUL_MESH_GATEWAY_URI":    w.Mesh.Gateway.Addr(),
		"CONSUL_EXTENSION_BIND_ADDR": w.Host,
		"AWS_ENDPOINT_URL_SSM":       w.Store.URL(),
		"CONSUL_SERVICE_UPSTREAMS":   "web:8080,echo:7001,digest:7002,greeter:7003,collector:7004,denied:8081,more:7777",
	} {
		if fn.Env[name] != want {
			t.Errorf("%s is %q, want %q", name, fn.Env[name], want)
		}
	}
	if w.Addr("more") != w.Host+":7777" || w.Addr("nobody") != "" || w.Sidecar("more") == nil || w.Sidecar("nobody") != nil {
		t.Errorf("more is at %q, nobody at %q", w.Addr("more"), w.Addr("nobody"))
	}
	fn.Env["CONSUL_SERVICE_UPSTREAMS"] = ""
	if w.Function().Env["CONSUL_SERVICE_UPSTREAMS"] == "" {
		t.Error("a change to one function's environment shows in the next")
	}
	if _, err := w.ColdStart(t.Context(), fn); !errors.Is(err, lab.ErrNoPrograms) {
		t.Errorf("a cold start without programs: %v", err)
	}
}

func TestProgramsAreFoundOnlyIfAllAreThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"mesh-function", "consul-lambda-extension", "consul-lambda-registrator"} {
		if p, err := lab.FindPrograms(dir); !errors.Is(err, lab.ErrNoPrograms) {
			t.Errorf("found %+v, %v", p, err)
		}
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, nil, 0o600))
		if _, err := lab.FindPrograms(dir); !errors.Is(err, lab.ErrNoPrograms) {
			t.Errorf("a file that cannot be executed was taken: %v", err)
		}
		ok(t, os.Chmod(path, 0o700))
	}
	p, err := lab.FindPrograms(dir)
	ok(t, err)
	if p.Function != filepath.Join(dir, "mesh-function") || p.Extension != filepath.Join(dir, "consul-lambda-extension") ||
		p.Registrator != filepath.Join(dir, "consul-lambda-registrator") {
		t.Errorf("found %+v", p)
	}
}

func TestAControlPlaneNeedsARegistrator(t *testing.T) {
	t.Parallel()
	if _, err := newWorld(t, lab.Config{}).StartControl(lab.ControlConfig{}); !errors.Is(err, lab.ErrNoPrograms) {
		t.Errorf("a control plane without a registrator: %v", err)
	}
}

func TestAnUnregisteredFunctionHasNoDocument(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Config{Unregistered: true})
	if names := w.Store.Names(); len(names) != 0 {
		t.Errorf("the store has %v", names)
	}
	if _, err := w.StoredLeaf(); err == nil {
		t.Error("a leaf was read from an empty store")
	}
	want, err := w.StoreLeaf(0)
	ok(t, err)
	if got, err := w.StoredLeaf(); err != nil || got.SerialNumber.Text(16) != want.Serial() {
		t.Errorf("the stored leaf is %v, %v", got, err)
	}
}
