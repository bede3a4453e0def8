// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"encoding/json"
	"net/http"
	"strings"
)

// maxTxnOps is Consul's limit (agent/txn_endpoint.go).
const maxTxnOps = 128

// txnOp is one operation of a transaction.
type txnOp struct {
	Node *struct {
		Verb string
		Node node
	}
	Service *struct {
		Verb    string
		Node    string
		Service service
	}
	KV, Check *struct{} // of no use but to be refused
}

type txnResult struct {
	Node    *node    `json:",omitempty"`
	Service *service `json:",omitempty"`
}

type txnError struct {
	OpIndex int
	What    string
}

// txnResponse is the answer; one with only reads shows more of itself.
type txnResponse struct {
	Results []txnResult
	Errors  []txnError
	*txnReadMeta
}

type txnReadMeta struct {
	Index                 uint64
	LastContact           int
	KnownLeader           bool
	ConsistencyLevel      string
	NotModified           bool
	Backend               int
	ResultsFilteredByACLs bool
}

func (x *exchange) txn() (any, error) {
	var ops []txnOp
	if err := json.Unmarshal(x.body, &ops); err != nil {
		return nil, badRequest("Failed to parse body: %v", err)
	}
	if len(ops) > maxTxnOps {
		return nil, &failure{http.StatusRequestEntityTooLarge,
			failed("Transaction contains too many operations (%d > %d)", len(ops), maxTxnOps).Error()}
	}
	st, a, err := x.access()
	if err != nil {
		return nil, err
	}
	writes := false
	for i := range ops {
		if ops[i].KV != nil || ops[i].Check != nil {
			return nil, badRequest("this server's transactions have no KV and no Check operations")
		}
		writes = writes || ops[i].writes()
		x.s.settle(&ops[i], st.datacenter)
	}
	var out txnResponse
	hidden := false
	if out.Errors = precheck(a, ops); len(out.Errors) == 0 {
		if writes {
			st.next()
		}
		out.Results, out.Errors = st.run(ops)
		if len(out.Errors) == 0 {
			total := len(out.Results)
			out.Results = visible(a, out.Results)
			hidden = len(out.Results) < total
		}
	}
	if !writes {
		out.txnReadMeta = &txnReadMeta{Index: 1, KnownLeader: true, ResultsFilteredByACLs: hidden}
		x.header.Set("X-Consul-KnownLeader", "true")
		x.header.Set("X-Consul-LastContact", "0")
	}
	if len(out.Errors) > 0 {
		return raw{http.StatusConflict, "application/json; charset=utf-8", marshal(out)}, nil
	}
	return out, nil
}

func (op *txnOp) writes() bool {
	return op.Node != nil && op.Node.Verb != "get" || op.Service != nil && op.Service.Verb != "get"
}

// settle puts an operation into the scope it names, and drops what a
// transaction does not carry over (txn_endpoint.go, convertOps).
func (s *Server) settle(op *txnOp, datacenter string) {
	if op.Node != nil {
		n := &op.Node.Node
		n.Partition = s.shown(s.scope(n.Partition, "").partition)
		n.Datacenter, n.Locality = datacenter, nil
	}
	if op.Service != nil {
		sv := &op.Service.Service
		sc := s.scope(sv.Partition, sv.Namespace)
		sv.Partition, sv.Namespace = s.shown(sc.partition), s.shown(sc.namespace)
		sv.Ports, sv.SocketPath, sv.Locality, sv.Connect, sv.PeerName = nil, "", nil, nil, ""
	}
}

// precheck applies what is checked before anything is done. Reads pass: what
// may not be seen is left out of the results.
func precheck(a authorizer, ops []txnOp) []txnError {
	var errs []txnError
	for i := range ops {
		var err error
		switch op := &ops[i]; {
		case op.Node != nil:
			switch op.Node.Verb {
			case "get":
			case "set", "cas", "delete", "delete-cas":
				if err = a.need(resourceNode, write, op.Node.Node.Node); op.Node.Node.Node == "" {
					err = failed("Must provide node")
				}
			default:
				err = failed("unknown node operation: %s", op.Node.Verb)
			}
		case op.Service != nil:
			switch op.Service.Verb {
			case "get":
			case "set", "cas", "delete", "delete-cas":
				err = op.Service.Service.prepare(a)
			default:
				err = failed("unknown service operation: %s", op.Service.Verb)
			}
		}
		if err != nil {
			errs = append(errs, txnError{i, err.Error()})
		}
	}
	return errs
}

// run does all operations, or none of them and says what was wrong with each.
func (st *store) run(ops []txnOp) ([]txnResult, []txnError) {
	t := transaction{catalog: st.catalog.clone(), index: st.index}
	results, errs := []txnResult{}, []txnError(nil)
	for i := range ops {
		var res txnResult
		var err error
		switch op := &ops[i]; {
		case op.Node != nil:
			res.Node, err = t.node(op.Node.Verb, &op.Node.Node)
		case op.Service != nil:
			res.Service, err = t.service(op.Service.Verb, op.Service.Node, &op.Service.Service)
		}
		switch {
		case err != nil:
			errs = append(errs, txnError{i, err.Error()})
		case res != txnResult{}:
			results = append(results, res)
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	st.catalog = t.catalog
	st.touch(catalogTable, t.changed)
	return results, nil
}

// transaction is the state that the operations of one transaction see.
type transaction struct {
	catalog catalog
	index   uint64
	changed bool
}

// stale reports whether a check-and-set with the index asked must not be done.
// An index of 0 asks that there be nothing yet.
func stale(asked uint64, exists bool, current uint64) bool {
	return exists != (asked != 0) || exists && asked != current
}

func (t *transaction) node(verb string, in *node) (*node, error) {
	key, old := in.key(), t.catalog.nodes[in.key()]
	var current uint64
	if old != nil {
		current = old.ModifyIndex
	}
	switch verb {
	case "get":
		if old == nil {
			return nil, failed("node %q doesn't exist", in.Node)
		}
		return old, nil
	case "cas":
		if stale(in.ModifyIndex, old != nil, current) {
			return nil, failed("failed to set node %q, index is stale", in.Node)
		}
	case "delete-cas":
		if old == nil || in.ModifyIndex != current {
			return nil, failed("failed to delete node %q, index is stale", in.Node)
		}
	}
	if strings.HasPrefix(verb, "delete") {
		t.changed = t.catalog.deleteNode(key) || t.changed
		return nil, nil
	}
	n := *in
	t.changed = t.catalog.ensureNode(t.index, &n) || t.changed
	return t.catalog.nodes[key], nil
}

func (t *transaction) service(verb, node string, in *service) (*service, error) {
	key := in.key(node)
	old := t.catalog.services[key]
	var current uint64
	if old != nil {
		current = old.ModifyIndex
	}
	switch verb {
	case "get":
		if old == nil {
			return nil, failed("service %q on node %q doesn't exist", in.ID, node)
		}
		return old, nil
	case "cas":
		if stale(in.ModifyIndex, old != nil, current) {
			return nil, failed("failed to set service %q on node %q, index is stale", in.ID, node)
		}
	case "delete-cas":
		if old == nil || in.ModifyIndex != current {
			return nil, failed("failed to delete service %q on node %q, index is stale", in.ID, node)
		}
	}
	if strings.HasPrefix(verb, "delete") {
		t.changed = t.catalog.deleteService(key) || t.changed
		return nil, nil
	}
	sv := *in
	changed, err := t.catalog.ensureService(t.index, node, &sv)
	if err != nil {
		return nil, err
	}
	t.changed = t.changed || changed
	return t.catalog.services[key], nil
}

// visible leaves out what the caller may not read.
func visible(a authorizer, results []txnResult) []txnResult {
	out := []txnResult{}
	for _, r := range results {
		if r.Node != nil && a.need(resourceNode, read, r.Node.Node) == nil ||
			r.Service != nil && a.need(resourceService, read, r.Service.Service) == nil {
			out = append(out, r)
		}
	}
	return out
}
