// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Config describes a [Mesh]. Its zero value works.
type Config struct {
	CA   CAConfig
	Seed uint64       // see GatewayConfig
	Log  *slog.Logger // nil: discard
}

// Mesh is one datacenter: a CA, a gateway or more with common routes, and
// services behind them. It is safe for concurrent use.
type Mesh struct {
	CA      *CA
	Gateway *Gateway // the first one
	Routes  *Routes  // of all gateways

	cfg      Config
	mu       sync.Mutex
	gateways []*Gateway
	sidecars []*Sidecar
}

// New makes a mesh with one gateway, which listens, and no services.
func New(cfg Config) (*Mesh, error) {
	ca, err := NewCA(cfg.CA)
	if err != nil {
		return nil, err
	}
	m := &Mesh{CA: ca, Routes: new(Routes), cfg: cfg}
	if m.Gateway, err = m.AddGateway(); err != nil {
		return nil, err
	}
	return m, nil
}

// AddGateway starts one more gateway with the routes of the others.
func (m *Mesh) AddGateway() (*Gateway, error) {
	g, err := NewGateway(GatewayConfig{Routes: m.Routes, Seed: m.cfg.Seed, Log: m.cfg.Log})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gateways = append(m.gateways, g)
	return g, nil
}

// AddService starts a service of the default namespace and partition that any
// member of the mesh may call.
func (m *Mesh) AddService(name string, h Handler) (*Sidecar, error) {
	s, err := mesh.NewService(name, "", "")
	if err != nil {
		return nil, err
	}
	return m.Add(s, SidecarConfig{Handler: h})
}

// Add starts a sidecar and routes the server name of s to it, in place of an
// earlier one. A CA, ID or Log that cfg leaves out is the mesh's and that of s.
func (m *Mesh) Add(s mesh.Service, cfg SidecarConfig) (*Sidecar, error) {
	sni, err := mesh.ServiceSNI(s, m.CA.Datacenter(), m.CA.TrustDomain())
	if err != nil {
		return nil, err
	}
	if cfg.CA == nil {
		cfg.CA = m.CA
	}
	if cfg.ID == (mesh.ID{}) {
		if cfg.ID, err = m.CA.ServiceID(s); err != nil {
			return nil, err
		}
	}
	if cfg.Log == nil {
		cfg.Log = m.cfg.Log
	}
	sidecar, err := NewSidecar(cfg)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sidecars = append(m.sidecars, sidecar)
	m.Routes.Set(sni.String(), sidecar.Addr())
	return sidecar, nil
}

// Document issues credentials for a function registered under name in the
// default namespace and partition.
func (m *Mesh) Document(name string) (mesh.Document, error) {
	s, err := mesh.NewService(name, "", "")
	if err != nil {
		return mesh.Document{}, err
	}
	return m.CA.Document(s, LeafOptions{})
}

// Rotate makes a new active root and has every sidecar show a leaf signed by
// it. Roots stay listed until CA.Prune.
func (m *Mesh) Rotate() error {
	if err := m.CA.Rotate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, s := range m.sidecars {
		errs = append(errs, s.Reload())
	}
	return errors.Join(errs...)
}

// Export is a service of this mesh that another cluster may call.
type Export struct {
	Service  mesh.Service
	PeerName string // what this cluster calls the importer; part of the server name
	Importer *CA    // the importer's
}

// SNI returns the server name by which the importer asks for the service.
func (m *Mesh) SNI(e Export) (mesh.SNI, error) {
	return mesh.PeeredSNI(e.Service, e.PeerName, m.CA.TrustDomain())
}

// ExportTCP exports a service as Consul does with protocol tcp: the gateway
// passes the stream through to the sidecar, whose certificate the importer sees.
func (m *Mesh) ExportTCP(e Export, to *Sidecar) error {
	sni, err := m.SNI(e)
	if err != nil {
		return err
	}
	to.Trust(e.Importer)
	m.Routes.Set(sni.String(), to.Addr())
	return nil
}

// ExportHTTP exports a service as Consul does with an http protocol: the first
// gateway terminates TLS, shows its own identity to the importer, and hands
// the plain bytes to h.
func (m *Mesh) ExportHTTP(e Export, h Handler) (*Sidecar, error) {
	sni, err := m.SNI(e)
	if err != nil {
		return nil, err
	}
	id, err := m.CA.GatewayID()
	if err != nil {
		return nil, err
	}
	end, err := m.Gateway.terminate(sni.String(), SidecarConfig{CA: m.CA, ID: id, Handler: h, Log: m.cfg.Log})
	if err != nil {
		return nil, err
	}
	end.Trust(e.Importer)
	return end, nil
}

// Close closes all gateways and sidecars, and waits for them.
func (m *Mesh) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, g := range m.gateways {
		errs = append(errs, g.Close())
	}
	for _, s := range m.sidecars {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
