// SPDX-License-Identifier: MPL-2.0

package meshsim

import (
	"strings"
	"sync"
)

// Routes maps server names to addresses. The zero value is empty; it is safe
// for concurrent use, and several gateways may share one.
type Routes struct {
	mu    sync.RWMutex
	addrs map[string]string
}

// Set sends connections for sni to addr ("host:port"), or nowhere if addr is
// "". A name that begins with "*." stands for every name that ends in the rest
// of it: how a gateway reaches the services of another datacenter, as in
// "*.dc2.internal.TD". Case is ignored, as Envoy ignores it.
func (r *Routes) Set(sni, addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if addr == "" {
		delete(r.addrs, strings.ToLower(sni))
		return
	}
	if r.addrs == nil {
		r.addrs = make(map[string]string)
	}
	r.addrs[strings.ToLower(sni)] = addr
}

// Lookup returns the address for a server name: of the name itself, or of the
// longest wildcard that fits.
func (r *Routes) Lookup(name string) (addr string, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	name = strings.ToLower(name)
	if addr, ok = r.addrs[name]; ok {
		return addr, true
	}
	for {
		_, parent, found := strings.Cut(name, ".")
		if !found {
			return "", false
		}
		if addr, ok = r.addrs["*."+parent]; ok {
			return addr, true
		}
		name = parent
	}
}
