// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// The operations, as faults, latencies and counts name them.
const (
	OpRegister     = "catalog.register"
	OpDeregister   = "catalog.deregister"
	OpNodeServices = "catalog.node-services"
	OpServices     = "catalog.services"
	OpService      = "catalog.service"
	OpDatacenters  = "catalog.datacenters"
	OpNodes        = "catalog.nodes"
	OpTxn          = "txn"
	OpConfigList   = "config.list"
	OpConfigGet    = "config.get"
	OpConfigSet    = "config.set"
	OpConfigDelete = "config.delete"
	OpRoots        = "roots"       // of the cluster, /v1/connect/ca/roots
	OpAgentRoots   = "agent.roots" // as the agent has them, /v1/agent/connect/ca/roots
	OpLeaf         = "leaf"
	OpPeerings     = "peerings"
	OpPeering      = "peering"
	OpKVGet        = "kv.get"
	OpKVPut        = "kv.put"
	OpKVDelete     = "kv.delete"
	OpLeader       = "status.leader"
	OpSelf         = "agent.self"
	// OpUnknown is every request that the server has no operation for. It is
	// answered as Consul answers a path or a method that it does not know.
	OpUnknown = "unknown"
)

// route is one operation.
type route struct {
	op     string
	method string
	path   string // of http.ServeMux, without the method
	serve  func(*exchange) (any, error)
	waits  bool // serve takes the server's lock itself, for parts of its time
}

var routes = []*route{
	{op: OpRegister, method: http.MethodPut, path: "/v1/catalog/register", serve: (*exchange).register},
	{op: OpDeregister, method: http.MethodPut, path: "/v1/catalog/deregister", serve: (*exchange).deregister},
	{op: OpNodeServices, method: http.MethodGet, path: "/v1/catalog/node-services/{name...}", serve: (*exchange).nodeServices},
	{op: OpServices, method: http.MethodGet, path: "/v1/catalog/services", serve: (*exchange).services},
	{op: OpService, method: http.MethodGet, path: "/v1/catalog/service/{name...}", serve: (*exchange).service},
	{op: OpDatacenters, method: http.MethodGet, path: "/v1/catalog/datacenters", serve: (*exchange).datacenters},
	{op: OpNodes, method: http.MethodGet, path: "/v1/catalog/nodes", serve: (*exchange).nodes},
	{op: OpTxn, method: http.MethodPut, path: "/v1/txn", serve: (*exchange).txn},
	{op: OpConfigList, method: http.MethodGet, path: "/v1/config/{kind}", serve: (*exchange).configList},
	{op: OpConfigDelete, method: http.MethodDelete, path: "/v1/config/{kind}", serve: (*exchange).configDelete},
	{op: OpConfigGet, method: http.MethodGet, path: "/v1/config/{kind}/{name...}", serve: (*exchange).configGet},
	{op: OpConfigDelete, method: http.MethodDelete, path: "/v1/config/{kind}/{name...}", serve: (*exchange).configDelete},
	{op: OpConfigSet, method: http.MethodPut, path: "/v1/config", serve: (*exchange).configSet},
	{op: OpRoots, method: http.MethodGet, path: "/v1/connect/ca/roots", serve: (*exchange).clusterRoots, waits: true},
	{op: OpAgentRoots, method: http.MethodGet, path: "/v1/agent/connect/ca/roots", serve: (*exchange).agentRoots, waits: true},
	{op: OpLeaf, method: http.MethodGet, path: "/v1/agent/connect/ca/leaf/{name...}", serve: (*exchange).leaf, waits: true},
	{op: OpPeerings, method: http.MethodGet, path: "/v1/peerings", serve: (*exchange).peerings},
	{op: OpPeering, method: http.MethodGet, path: "/v1/peering/{name...}", serve: (*exchange).peering},
	{op: OpKVGet, method: http.MethodGet, path: "/v1/kv/{name...}", serve: (*exchange).kvGet},
	{op: OpKVPut, method: http.MethodPut, path: "/v1/kv/{name...}", serve: (*exchange).kvPut},
	{op: OpKVDelete, method: http.MethodDelete, path: "/v1/kv/{name...}", serve: (*exchange).kvDelete},
	{op: OpLeader, method: http.MethodGet, path: "/v1/status/leader", serve: (*exchange).leader},
	{op: OpSelf, method: http.MethodGet, path: "/v1/agent/self", serve: (*exchange).self},
}

// ops returns every operation but [OpUnknown].
func ops() []string {
	var all []string
	for _, rt := range routes {
		if !slices.Contains(all, rt.op) {
			all = append(all, rt.op)
		}
	}
	return all
}

// mustKnow panics at a misspelt operation: its fault would never strike, and
// its count would always be zero.
func mustKnow(op string) {
	if op != "" && op != OpUnknown && !slices.Contains(ops(), op) {
		panic(fmt.Sprintf("consulsim: there is no operation %q", op))
	}
}

// mux dispatches by path first: a known path with another method is a 405 that
// names the methods, in Consul's words.
func (s *Server) mux() http.Handler {
	mux := http.NewServeMux()
	byPath := make(map[string][]*route)
	for _, rt := range routes {
		byPath[rt.path] = append(byPath[rt.path], rt)
	}
	for path, methods := range byPath {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			i := slices.IndexFunc(methods, func(rt *route) bool { return rt.method == r.Method })
			if i < 0 {
				s.serveHTTP(wrongMethod(methods), w, r)
				return
			}
			s.serveHTTP(methods[i], w, r)
		})
	}
	notFound := &route{op: OpUnknown, serve: func(*exchange) (any, error) {
		return nil, &failure{http.StatusNotFound, "Invalid URL path: not a recognized HTTP API endpoint\n"}
	}}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.serveHTTP(notFound, w, r) })
	return mux
}

func wrongMethod(known []*route) *route {
	allow := []string{http.MethodOptions}
	for _, rt := range known {
		allow = append(allow, rt.method)
	}
	return &route{op: OpUnknown, serve: func(x *exchange) (any, error) {
		x.header.Set("Allow", strings.Join(allow, ","))
		return nil, &failure{http.StatusMethodNotAllowed, fmt.Sprintf("method %s not allowed", x.r.Method)}
	}}
}

// leader answers who leads: the address of the RPC port, which nobody serves.
func (x *exchange) leader() (any, error) {
	if _, err := x.store(); err != nil {
		return nil, err
	}
	return "127.0.0.1:8300", nil
}

// self answers the part of the agent's description that clients read.
func (x *exchange) self() (any, error) {
	a, err := x.authorize()
	if err != nil {
		return nil, err
	}
	if err := a.need(resourceAgent, read, x.s.cfg.NodeName); err != nil {
		return nil, err
	}
	local, suffix := x.s.cfg.Datacenters[0], ""
	if x.s.cfg.Enterprise {
		suffix = "ent"
	}
	return map[string]any{
		"Config": map[string]any{
			"Datacenter": local, "PrimaryDatacenter": local, "NodeName": x.s.cfg.NodeName, "NodeID": agentID,
			"Revision": "", "Server": true, "Version": version, "VersionMetadata": suffix,
		},
		"DebugConfig": map[string]any{},
		"Member":      map[string]any{"Name": x.s.cfg.NodeName, "Addr": "127.0.0.1", "Status": 1},
		"Meta":        map[string]string{"consul-network-segment": "", "consul-version": version},
		"Stats":       map[string]any{},
	}, nil
}
