// SPDX-License-Identifier: MPL-2.0

package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/ssmsim"
	"github.com/consul-lambda/consul-lambda/mesh"
)

// Config describes a [World]. Its zero value works; without Programs the world can start no function.
type Config struct {
	// Programs run in sandboxes.
	Programs Programs

	// FunctionName is the function's name, and that of its service. Empty: "checkout".
	FunctionName string

	// Account is the AWS account of the function and the store. Empty: "123456789012".
	Account string

	// Unregistered leaves the store empty: a registrator is to fill it. See [World.StartControl].
	Unregistered bool

	// CA is the mesh's certificate authority.
	CA meshsim.CAConfig

	// Log gets what the gateway and the sidecars have to say. Nil: discard.
	Log *slog.Logger
}

// dataPrefix is where documents are stored, for CONSUL_EXTENSION_DATA_PREFIX.
const dataPrefix = "/consul/lambda"

// World is a mesh, a store that holds credentials of one function, and what it takes to run that function. It is safe
// for concurrent use.
type World struct {
	// Mesh has the CA, the gateway and the services.
	Mesh *meshsim.Mesh

	// Store lets the function's role read its own document, and nobody else in but a registrator.
	Store *ssmsim.Server

	// Host is the loopback address on which the world's extension listens, and no other world's.
	Host string

	// Collected is what the service [Collector] takes in.
	Collected *Collection

	cfg      Config
	function mesh.Service
	id       mesh.ID
	path     string
	account  lambdasim.Options // the role's credentials
	printed  printed           // by the world's processes

	mu        sync.Mutex
	upstreams []upstream
	sidecars  map[string]*meshsim.Sidecar
	documents []string // all that were stored
}

// upstream is a service and the port at which the extension offers it.
type upstream struct {
	name string
	port int
}

// New makes a world with the services of services.go and a document of full life in the store. ctx bounds New only; the
// caller closes the world.
func New(ctx context.Context, cfg Config) (*World, error) {
	cfg.FunctionName, cfg.Account = cmp.Or(cfg.FunctionName, "checkout"), cmp.Or(cfg.Account, "123456789012")
	w := &World{cfg: cfg, sidecars: make(map[string]*meshsim.Sidecar), Collected: newCollection()}
	if err := w.make(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: making a world: %w", err), w.Close())
	}
	return w, nil
}

func (w *World) make(ctx context.Context) (err error) {
	if w.function, err = mesh.NewService(w.cfg.FunctionName, "", ""); err != nil {
		return err
	}
	if w.path, err = w.function.ParameterPath(dataPrefix); err != nil {
		return err
	}
	if w.Mesh, err = meshsim.New(meshsim.Config{CA: w.cfg.CA, Log: w.cfg.Log}); err != nil {
		return err
	}
	if w.id, err = w.Mesh.CA.ServiceID(w.function); err != nil {
		return err
	}
	if w.Store, err = ssmsim.Start(ssmsim.Config{AccountID: w.cfg.Account}); err != nil {
		return err
	}
	if w.Host, err = freeHost(ctx); err != nil {
		return err
	}
	w.account = newRole(w.cfg.Account)
	w.Store.RequireAuth(w.reader())
	if err := w.addServices(); err != nil {
		return err
	}
	if !w.cfg.Unregistered {
		_, err = w.StoreLeaf(0)
	}
	return err
}

// freeHost returns an address of 127.64.0.0/10 that can be bound. Chosen at random among four million, it is not also
// another world's.
func freeHost(ctx context.Context) (string, error) {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	host := net.IPv4(127, 64|b[0]&0x3f, b[1], b[2]).String()
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("taking an address of loopback: %w", err)
	}
	return host, ln.Close()
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Close ends the mesh and the store, with every connection, and waits for them. The error wraps [ErrLeak] if a process of the world
// has printed a secret.
func (w *World) Close() error {
	w.Collected.stop() // its handlers wait for it
	var err error
	if w.Store != nil {
		err = w.Leaks()
	}
	if w.Mesh != nil {
		err = errors.Join(err, w.Mesh.Close())
	}
	if w.Store != nil {
		w.Store.Close()
	}
	return err
}

// AddService starts a service and makes it an upstream of functions that are made from now on, at the port given. What
// cfg leaves out is as [meshsim.Mesh.Add] says.
func (w *World) AddService(name string, port int, cfg meshsim.SidecarConfig) (*meshsim.Sidecar, error) {
	s, err := mesh.NewService(name, "", "")
	if err != nil {
		return nil, err
	}
	sidecar, err := w.Mesh.Add(s, cfg)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.upstreams = append(w.upstreams, upstream{name, port})
	w.sidecars[name] = sidecar
	return sidecar, nil
}

// Sidecar returns the destination of that name; nil if there is none.
func (w *World) Sidecar(name string) *meshsim.Sidecar {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sidecars[name]
}

// Addr returns the "host:port" at which the function reaches the service; "" if there is none.
func (w *World) Addr(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range w.upstreams {
		if u.name == name {
			return net.JoinHostPort(w.Host, strconv.Itoa(u.port))
		}
	}
	return ""
}

// FunctionID returns the function's identity in the mesh.
func (w *World) FunctionID() mesh.ID { return w.id }

// ParameterPath returns the name under which the function's document is stored.
func (w *World) ParameterPath() string { return w.path }

// StoreLeaf issues a leaf of the function that lives for ttl and stores it with all roots, as the registrator would. A
// ttl of 0 is the CA's. X.509 counts in whole seconds: the leaf ends up to one earlier.
func (w *World) StoreLeaf(ttl time.Duration) (*meshsim.Leaf, error) {
	var opts meshsim.LeafOptions
	if ttl > 0 {
		opts.NotAfter = time.Now().Add(ttl)
	}
	return w.StoreLeafWith(opts)
}

// StoreLeafWith is StoreLeaf for a leaf of any kind, unfit ones too.
func (w *World) StoreLeafWith(opts meshsim.LeafOptions) (*meshsim.Leaf, error) {
	leaf, err := w.Mesh.CA.Issue(w.id, opts)
	if err != nil {
		return nil, err
	}
	doc := mesh.Document{PrivateKeyPEM: leaf.KeyPEM, CertPEM: leaf.CertPEM, RootCertPEM: w.Mesh.CA.RootsPEM(), TrustDomain: w.Mesh.CA.TrustDomain()}
	text, err := doc.Encode()
	if err != nil {
		return nil, err
	}
	w.StoreText(string(text))
	return leaf, nil
}

// StoredLeaf returns the function's leaf that is in the store now, whoever put it there.
func (w *World) StoredLeaf() (*x509.Certificate, error) {
	p, found := w.Store.Get(w.path)
	if !found {
		return nil, fmt.Errorf("lab: the store has no %s", w.path)
	}
	doc, err := mesh.ParseDocument([]byte(p.Value))
	if err != nil {
		return nil, fmt.Errorf("lab: reading %s: %w", w.path, err)
	}
	block, _ := pem.Decode([]byte(doc.CertPEM))
	if block == nil {
		return nil, fmt.Errorf("lab: %s has no certificate", w.path)
	}
	return x509.ParseCertificate(block.Bytes)
}

// StoreText stores any text in place of the document.
func (w *World) StoreText(text string) {
	w.mu.Lock()
	w.documents = append(w.documents, text)
	w.mu.Unlock()
	w.Store.Put(w.path, text)
}

// RotateRoot makes a new root of the mesh the active one, and has every service show a leaf under it. The function's
// document follows with the next StoreLeaf.
func (w *World) RotateRoot() error { return w.Mesh.Rotate() }
