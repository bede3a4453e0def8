// SPDX-License-Identifier: MPL-2.0

package consulsim

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulproc"
)

// realConsul names the variable with the address of a community-edition agent,
// open and of one datacenter, that is to be put to the same cases. With E2E=1 and
// no address a Consul server is started for it.
const realConsul = "CONSULSIM_CONSUL_ADDR"

func TestThisServerConforms(t *testing.T) {
	t.Parallel()
	conformance(t, subject{addr: start(t, Config{}).Addr()})
}

func TestARealConsulConforms(t *testing.T) {
	t.Parallel()
	conformance(t, subject{addr: realAddr(t), real: true})
}

// realAddr returns the address of a Consul, and skips the test unless there is one.
func realAddr(t *testing.T) string {
	t.Helper()
	if addr := os.Getenv(realConsul); addr != "" {
		return addr
	}
	if os.Getenv("E2E") != "1" {
		t.Skip("make test-e2e compares with a Consul server, " + realConsul + " with the agent it names")
	}
	binary, err := consulproc.Find(filepath.Join("..", "..", "..", "bin"))
	if errors.Is(err, consulproc.ErrNoBinary) && os.Getenv("CONSUL_REQUIRED") != "1" {
		t.Skip("run make consul for this test: ", err)
	}
	ok(t, err)
	server, err := consulproc.Start(t.Context(), consulproc.Config{Binary: binary, Dir: t.TempDir()})
	ok(t, err)
	t.Cleanup(func() { ok(t, server.Close()) })
	return server.Addr()
}

// subject is who is put to the cases.
type subject struct {
	addr string
	real bool // a Consul, that others may have written to
}

// conformance puts one server to every case. A case uses names of its own, so
// that a server in use can be asked, and leaves nothing behind.
func conformance(t *testing.T, who subject) {
	for name, check := range map[string]func(*testing.T, *api.Client, subject){
		"a node that is not there has no services, and is no error":      missingNode,
		"a service is registered with its node and read back":            registered,
		"a registration that changes nothing keeps every index":          registeredAgain,
		"names are found whatever their case":                            anyCase,
		"skipping the node's update makes the node, but not a change":    skipNodeUpdate,
		"deregistering takes the service, or all with the node":          deregistered,
		"a transaction sets, compares, gets and deletes":                 transactionWorks,
		"a transaction is all or nothing and names each wrong operation": transactionFails,
		"a transaction may have 128 operations":                          transactionLimit,
		"an entry is set only under the right index":                     entryCAS,
		"an entry keeps what it was given":                               entryFidelity,
		"writing an entry again is true under any index":                 entryAgain,
		"an entry is deleted only under the right index":                 entryDelete,
		"roots are listed, one of them active":                           rootsListed,
		"a leaf is good for its service under the roots":                 leafGood,
		"a blocking read of a leaf waits":                                leafBlocks,
		"a peering that is not there is nil":                             noPeering,
		"a key is written, compared and deleted":                         keys,
		"the catalog lists datacenters, nodes and services":              listings,
		"the words of every answer are Consul's":                         wordForWord,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, client(t, who.addr), who)
		})
	}
}

var uniqueNames atomic.Int64

// unique returns a name that nobody else uses.
func unique(kind string) string {
	return fmt.Sprintf("sim-%s-%d-%d-%d", kind, os.Getpid(), time.Now().UnixNano()%1e9, uniqueNames.Add(1))
}

// newNode registers a node for the case.
func newNode(t *testing.T, c *api.Client) string {
	t.Helper()
	name := unique("node")
	register(t, c, &api.CatalogRegistration{Node: name, Address: "192.0.2.1", NodeMeta: map[string]string{"external-node": "true"}})
	t.Cleanup(func() {
		_, err := c.Catalog().Deregister(&api.CatalogDeregistration{Node: name}, nil)
		ok(t, err)
	})
	return name
}

func register(t *testing.T, c *api.Client, r *api.CatalogRegistration) {
	t.Helper()
	_, err := c.Catalog().Register(r, nil)
	ok(t, err)
}

func nodeServices(t *testing.T, c *api.Client, node string) *api.CatalogNodeServiceList {
	t.Helper()
	list, meta, err := c.Catalog().NodeServiceList(node, nil)
	ok(t, err)
	if !meta.KnownLeader || meta.LastIndex == 0 {
		t.Errorf("meta of a read: %+v", meta)
	}
	return list
}

// only returns the node's one service.
func only(t *testing.T, c *api.Client, node string) *api.AgentService {
	t.Helper()
	list := nodeServices(t, c, node)
	if len(list.Services) != 1 {
		t.Fatalf("%d services on the node, want 1", len(list.Services))
	}
	return list.Services[0]
}

func missingNode(t *testing.T, c *api.Client, _ subject) {
	if list := nodeServices(t, c, unique("none")); list.Node != nil || list.Services != nil {
		t.Errorf("got %+v, want neither node nor services", list)
	}
}

func registered(t *testing.T, c *api.Client, _ subject) {
	node, name := newNode(t, c), unique("svc")
	register(t, c, &api.CatalogRegistration{Node: node, SkipNodeUpdate: true, Service: &api.AgentService{
		Service: name, Tags: []string{"b", "a"}, Meta: map[string]string{"k_1": "v"}, Port: 8080, Address: "192.0.2.7",
	}})
	list := nodeServices(t, c, node)
	if n := list.Node; n.Node != node || n.Address != "192.0.2.1" || n.Meta["external-node"] != "true" || n.TaggedAddresses != nil {
		t.Errorf("node %+v", n)
	}
	got := *only(t, c, node)
	if got.CreateIndex == 0 || got.CreateIndex != got.ModifyIndex {
		t.Errorf("a new service has the indexes %d and %d", got.CreateIndex, got.ModifyIndex)
	}
	got.CreateIndex, got.ModifyIndex = 0, 0
	want := api.AgentService{
		ID: name, Service: name, Tags: []string{"b", "a"}, Meta: map[string]string{"k_1": "v"}, Port: 8080,
		Address: "192.0.2.7", Weights: api.AgentWeights{Passing: 1, Warning: 1},
		Proxy: &api.AgentServiceConnectProxyConfig{}, Connect: &api.AgentServiceConnect{},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	instances, _, err := c.Catalog().Service(name, "a", nil)
	ok(t, err)
	if len(instances) != 1 || instances[0].Node != node || instances[0].ServiceMeta["k_1"] != "v" || instances[0].Address != "192.0.2.1" {
		t.Errorf("instances %+v", instances)
	}
	if none, _, err := c.Catalog().Service(name, "c", nil); err != nil || none == nil || len(none) != 0 {
		t.Errorf("instances with a tag they lack: %v, %v", none, err)
	}
}

func registeredAgain(t *testing.T, c *api.Client, _ subject) {
	node, name := newNode(t, c), unique("svc")
	reg := func(tag string) *api.CatalogRegistration {
		return &api.CatalogRegistration{
			Node: node, Address: "192.0.2.1", NodeMeta: map[string]string{"external-node": "true"},
			Service: &api.AgentService{Service: name, Tags: []string{tag}},
		}
	}
	register(t, c, reg("one"))
	before, nodeBefore := only(t, c, node), nodeServices(t, c, node).Node
	register(t, c, reg("one"))
	if d := cmp.Diff(before, only(t, c, node)); d != "" {
		t.Error(d)
	}
	register(t, c, reg("two"))
	after := only(t, c, node)
	if after.ModifyIndex <= before.ModifyIndex || after.CreateIndex != before.CreateIndex {
		t.Errorf("a change took the indexes from %d/%d to %d/%d",
			before.CreateIndex, before.ModifyIndex, after.CreateIndex, after.ModifyIndex)
	}
	if d := cmp.Diff(nodeBefore, nodeServices(t, c, node).Node); d != "" {
		t.Error(d)
	}
}

func anyCase(t *testing.T, c *api.Client, _ subject) {
	node, name := newNode(t, c), unique("svc")
	register(t, c, &api.CatalogRegistration{Node: node, SkipNodeUpdate: true, Service: &api.AgentService{Service: name}})
	register(t, c, &api.CatalogRegistration{
		Node: strings.ToUpper(node), SkipNodeUpdate: true, Service: &api.AgentService{Service: strings.ToUpper(name)},
	})
	if sv := only(t, c, strings.ToUpper(node)); sv.ID != strings.ToUpper(name) {
		t.Errorf("service %q, want the last spelling", sv.ID)
	}
	if n := nodeServices(t, c, strings.ToUpper(node)).Node; n.Node != node {
		t.Errorf("node %q, want the first spelling", n.Node)
	}
	entry := &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: name, Protocol: "tcp"}
	_, _, err := c.ConfigEntries().Set(entry, nil)
	ok(t, err)
	got, _, err := c.ConfigEntries().Get(api.ServiceDefaults, strings.ToUpper(name), nil)
	ok(t, err)
	if got.GetName() != name {
		t.Errorf("entry %q", got.GetName())
	}
	_, err = c.ConfigEntries().Delete(api.ServiceDefaults, strings.ToUpper(name), nil)
	ok(t, err)
}

func skipNodeUpdate(t *testing.T, c *api.Client, _ subject) {
	node := unique("node")
	t.Cleanup(func() {
		_, err := c.Catalog().Deregister(&api.CatalogDeregistration{Node: node}, nil)
		ok(t, err)
	})
	register(t, c, &api.CatalogRegistration{Node: node, Address: "192.0.2.1", SkipNodeUpdate: true})
	register(t, c, &api.CatalogRegistration{Node: node, Address: "192.0.2.2", SkipNodeUpdate: true})
	if n := nodeServices(t, c, node).Node; n == nil || n.Address != "192.0.2.1" || n.Meta != nil {
		t.Errorf("node %+v, want the first address", n)
	}
	register(t, c, &api.CatalogRegistration{Node: node, Address: "192.0.2.3"})
	if n := nodeServices(t, c, node).Node; n.Address != "192.0.2.3" || n.ModifyIndex <= n.CreateIndex {
		t.Errorf("node %+v, want the third address", n)
	}
}

func deregistered(t *testing.T, c *api.Client, _ subject) {
	node := newNode(t, c)
	a, b := unique("svc"), unique("svc")
	for _, name := range []string{a, b} {
		register(t, c, &api.CatalogRegistration{Node: node, SkipNodeUpdate: true, Service: &api.AgentService{Service: name}})
	}
	for range 2 { // the second time there is nothing left to do, and no error
		_, err := c.Catalog().Deregister(&api.CatalogDeregistration{Node: node, ServiceID: a}, nil)
		ok(t, err)
	}
	if sv := only(t, c, node); sv.ID != b {
		t.Errorf("%q is left", sv.ID)
	}
	_, err := c.Catalog().Deregister(&api.CatalogDeregistration{Node: node}, nil)
	ok(t, err)
	if list := nodeServices(t, c, node); list.Node != nil || list.Services != nil {
		t.Errorf("left over: %+v", list)
	}
	if left, _, err := c.Catalog().Service(b, "", nil); err != nil || len(left) != 0 {
		t.Errorf("instances left over: %v, %v", left, err)
	}
}

func serviceOp(verb api.ServiceOp, node string, sv api.AgentService) *api.TxnOp {
	return &api.TxnOp{Service: &api.ServiceTxnOp{Verb: verb, Node: node, Service: sv}}
}

func txn(t *testing.T, c *api.Client, ops ...*api.TxnOp) (bool, *api.TxnResponse) {
	t.Helper()
	done, resp, _, err := c.Txn().Txn(ops, nil)
	ok(t, err)
	return done, resp
}

func transactionWorks(t *testing.T, c *api.Client, _ subject) {
	node, name := newNode(t, c), unique("svc")
	sv := api.AgentService{ID: name, Service: name, Tags: []string{"t"}, Meta: map[string]string{"k": "v"}, Port: 1}
	done, resp := txn(t, c,
		serviceOp(api.ServiceCAS, node, sv), // index 0: only if it is new
		serviceOp(api.ServiceGet, node, sv),
		&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeGet, Node: api.Node{Node: node}}},
	)
	if !done || len(resp.Errors) != 0 || len(resp.Results) != 3 {
		t.Fatalf("done %v, %+v", done, resp)
	}
	first := resp.Results[0].Service
	if d := cmp.Diff(first, resp.Results[1].Service); d != "" {
		t.Error(d)
	}
	if resp.Results[2].Node.Node != node || first.Meta["k"] != "v" || first.Weights.Passing != 1 {
		t.Errorf("results %+v and %+v", first, resp.Results[2].Node)
	}
	sv.ModifyIndex = first.ModifyIndex
	done, resp = txn(t, c, serviceOp(api.ServiceCAS, node, sv))
	if !done || resp.Results[0].Service.ModifyIndex != first.ModifyIndex {
		t.Errorf("the same again: done %v, index %d, was %d", done, resp.Results[0].Service.ModifyIndex, first.ModifyIndex)
	}
	sv.Port = 2
	done, resp = txn(t, c, serviceOp(api.ServiceCAS, node, sv))
	if !done || resp.Results[0].Service.ModifyIndex <= first.ModifyIndex {
		t.Fatalf("a change: done %v, %+v", done, resp)
	}
	sv.ModifyIndex = resp.Results[0].Service.ModifyIndex
	done, resp = txn(t, c, serviceOp(api.ServiceDeleteCAS, node, sv))
	if !done || len(resp.Results) != 0 || resp.Results == nil {
		t.Errorf("delete: done %v, %+v", done, resp)
	}
	if done, resp := txn(t, c, serviceOp(api.ServiceDelete, node, sv)); !done {
		t.Errorf("deleting what is gone: %+v", resp)
	}
	if list := nodeServices(t, c, node); len(list.Services) != 0 {
		t.Errorf("left over: %+v", list.Services)
	}
}

func transactionFails(t *testing.T, c *api.Client, _ subject) {
	node, name := newNode(t, c), unique("svc")
	sv := func(name string, index uint64) api.AgentService {
		return api.AgentService{ID: name, Service: name, ModifyIndex: index}
	}
	n := nodeServices(t, c, node).Node
	stale := api.Node{Node: node, Address: "192.0.2.9", ModifyIndex: n.ModifyIndex + 1}
	done, resp := txn(t, c,
		serviceOp(api.ServiceSet, node, sv(name, 0)),
		serviceOp(api.ServiceCAS, node, sv(name+"-2", 7)),
		serviceOp(api.ServiceDeleteCAS, node, sv(name+"-3", 7)),
		serviceOp(api.ServiceGet, node, sv(name+"-4", 0)),
		serviceOp(api.ServiceSet, node+"-none", sv(name, 0)),
		&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeCAS, Node: stale}},
		&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeDeleteCAS, Node: stale}},
		serviceOp(api.ServiceSet, node, api.AgentService{ID: name, Service: name, Meta: map[string]string{"a b": "c"}}),
		serviceOp(api.ServiceCAS, node, sv(name, 0)), // set by the first operation
	)
	if done || resp.Results != nil {
		t.Errorf("done %v, results %v", done, resp.Results)
	}
	want := api.TxnErrors{
		{OpIndex: 1, What: fmt.Sprintf("failed to set service %q on node %q, index is stale", name+"-2", node)},
		{OpIndex: 2, What: fmt.Sprintf("failed to delete service %q on node %q, index is stale", name+"-3", node)},
		{OpIndex: 3, What: fmt.Sprintf("service %q on node %q doesn't exist", name+"-4", node)},
		{OpIndex: 4, What: "Missing node registration"},
		{OpIndex: 5, What: fmt.Sprintf("failed to set node %q, index is stale", node)},
		{OpIndex: 6, What: fmt.Sprintf("failed to delete node %q, index is stale", node)},
		{OpIndex: 7, What: fmt.Sprintf("Invalid Service Meta for node %s and serviceID %s: "+
			"Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters", node, name)},
		{OpIndex: 8, What: fmt.Sprintf("failed to set service %q on node %q, index is stale", name, node)},
	}
	if d := cmp.Diff(want, resp.Errors); d != "" {
		t.Error(d)
	}
	if list := nodeServices(t, c, node); len(list.Services) != 0 || !cmp.Equal(list.Node, n) {
		t.Errorf("a failed transaction left %+v", list)
	}
	// What is wrong before anything is tried hides what would go wrong then.
	_, resp = txn(t, c,
		serviceOp(api.ServiceGet, node, sv(name+"-4", 0)),
		serviceOp("leap", node, sv(name, 0)),
		serviceOp(api.ServiceDelete, node, api.AgentService{ID: name}),
		&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeSet}},
	)
	want = api.TxnErrors{
		{OpIndex: 1, What: "unknown service operation: leap"},
		{OpIndex: 2, What: "Must provide service name (Service.Service) when service ID is provided"},
		{OpIndex: 3, What: "Must provide node"},
	}
	if d := cmp.Diff(want, resp.Errors); d != "" {
		t.Error(d)
	}
}

func transactionLimit(t *testing.T, c *api.Client, _ subject) {
	node := newNode(t, c)
	ops := make(api.TxnOps, 128)
	for i := range ops {
		ops[i] = serviceOp(api.ServiceSet, node, api.AgentService{ID: strconv.Itoa(i), Service: unique("many")})
	}
	if done, resp := txn(t, c, ops...); !done || len(resp.Results) != 128 {
		t.Errorf("128 operations: done %v, %d results", done, len(resp.Results))
	}
	_, _, _, err := c.Txn().Txn(append(ops, ops[0]), nil)
	if err == nil || !strings.Contains(err.Error(), "Transaction contains too many operations (129 > 128)") {
		t.Errorf("129 operations: %v", err)
	}
}

// lambdaEntry is an entry as the registrator writes it.
func lambdaEntry(name string) *api.ServiceConfigEntry {
	return &api.ServiceConfigEntry{
		Kind: api.ServiceDefaults, Name: name, Protocol: "http",
		EnvoyExtensions: []api.EnvoyExtension{{Name: api.BuiltinAWSLambdaExtension, Arguments: map[string]any{
			"ARN": "arn:aws:lambda:us-east-1:111111111111:function:" + name, "PayloadPassthrough": true, "InvocationMode": "asynchronous",
		}}},
	}
}

func newEntry(t *testing.T, c *api.Client, e *api.ServiceConfigEntry) *api.ServiceConfigEntry {
	t.Helper()
	set, _, err := c.ConfigEntries().CAS(e, 0, nil)
	ok(t, err)
	if !set {
		t.Fatal("a new entry was not set under the index 0")
	}
	t.Cleanup(func() {
		_, err := c.ConfigEntries().Delete(api.ServiceDefaults, e.Name, nil)
		ok(t, err)
	})
	return getEntry(t, c, e.Name)
}

func getEntry(t *testing.T, c *api.Client, name string) *api.ServiceConfigEntry {
	t.Helper()
	got, _, err := c.ConfigEntries().Get(api.ServiceDefaults, name, nil)
	ok(t, err)
	return got.(*api.ServiceConfigEntry)
}

func entryCAS(t *testing.T, c *api.Client, _ subject) {
	name := unique("fn")
	if set, _, err := c.ConfigEntries().CAS(lambdaEntry(name), 7, nil); err != nil || set {
		t.Errorf("an entry that is not there was set under an index: %v, %v", set, err)
	}
	e := newEntry(t, c, lambdaEntry(name))
	if e.CreateIndex == 0 || e.ModifyIndex != e.CreateIndex {
		t.Errorf("indexes %d and %d", e.CreateIndex, e.ModifyIndex)
	}
	for _, stale := range []uint64{0, e.ModifyIndex - 1, e.ModifyIndex + 1} {
		other := lambdaEntry(name)
		other.Protocol = "tcp"
		if set, _, err := c.ConfigEntries().CAS(other, stale, nil); err != nil || set {
			t.Errorf("set under the stale index %d: %v, %v", stale, set, err)
		}
	}
	next := lambdaEntry(name)
	next.Meta = map[string]string{"owner": "me"}
	if set, _, err := c.ConfigEntries().CAS(next, e.ModifyIndex, nil); err != nil || !set {
		t.Fatalf("not set under the right index: %v", err)
	}
	after := getEntry(t, c, name)
	if after.CreateIndex != e.CreateIndex || after.ModifyIndex <= e.ModifyIndex || after.Meta["owner"] != "me" {
		t.Errorf("after the change: %+v", after)
	}
	list, meta, err := c.ConfigEntries().List(api.ServiceDefaults, nil)
	ok(t, err)
	found := 0
	for _, l := range list {
		if l.GetName() == name && l.GetModifyIndex() == after.ModifyIndex {
			found++
		}
	}
	if found != 1 || meta.LastIndex < after.ModifyIndex {
		t.Errorf("the list has the entry %d times, its index is %d", found, meta.LastIndex)
	}
}

// Raw JSON survives: what other clients know of an entry, and ours does not (G6).
func entryFidelity(t *testing.T, _ *api.Client, who subject) {
	name := unique("fn")
	url := "http://" + who.addr + "/v1/config"
	a := request(t, http.MethodPut, url, `{"Kind":"service-defaults","Name":"`+name+`","Protocol":"HTTP",`+
		`"max_inbound_connections":5,"UpstreamConfig":{"Defaults":{"Protocol":"tcp","ConnectTimeoutMs":3000}},`+
		`"Meta":{"a b":"c"},"EnvoyExtensions":[{"Name":"builtin/aws/lambda","Required":true,`+
		`"Arguments":{"arn":"arn:aws:lambda:us-east-1:111111111111:function:x","Extra":{"x":[1,2.5,"s"]}}}]}`)
	if a.status != 200 || strings.TrimSpace(a.body) != "true" {
		t.Fatalf("set: %+v", a)
	}
	t.Cleanup(func() { cleanup(t, http.MethodDelete, url+"/service-defaults/"+name) })
	a = request(t, http.MethodGet, url+"/service-defaults/"+name, "")
	got := tree(t, a.body).(map[string]any)
	for _, computed := range []string{"Hash", "CreateIndex", "ModifyIndex"} {
		if _, err := strconv.ParseUint(fmt.Sprint(got[computed]), 10, 64); err != nil {
			t.Errorf("%s is %v", computed, got[computed])
		}
		delete(got, computed)
	}
	want := tree(t, `{"Kind":"service-defaults","Name":"`+name+`","Protocol":"http","TransparentProxy":{},"MeshGateway":{},"Expose":{},`+
		`"MaxInboundConnections":5,"UpstreamConfig":{"Defaults":{"Protocol":"tcp","ConnectTimeoutMs":3000}},`+
		`"Meta":{"a b":"c"},"EnvoyExtensions":[{"Name":"builtin/aws/lambda","Required":true,"ConsulVersion":"","EnvoyVersion":"",`+
		`"Arguments":{"arn":"arn:aws:lambda:us-east-1:111111111111:function:x","Extra":{"x":[1,2.5,"s"]}}}]}`).(map[string]any)
	// Consul completes parts of an entry that this server only keeps.
	for _, completed := range []string{"MeshGateway", "Peer"} {
		delete(got["UpstreamConfig"].(map[string]any)["Defaults"].(map[string]any), completed)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func cleanup(t *testing.T, method, url string) {
	// The test's own context has ended by now.
	r, err := http.NewRequest(method, url, nil)
	ok(t, err)
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	ok(t, err)
	resp.Body.Close()
}

func entryAgain(t *testing.T, c *api.Client, _ subject) {
	e := newEntry(t, c, lambdaEntry(unique("fn")))
	for _, index := range []uint64{0, 1, e.ModifyIndex} {
		if set, _, err := c.ConfigEntries().CAS(lambdaEntry(e.Name), index, nil); err != nil || !set {
			t.Errorf("the same entry under %d: %v, %v", index, set, err)
		}
	}
	if again := getEntry(t, c, e.Name); again.ModifyIndex != e.ModifyIndex {
		t.Errorf("nothing changed, and the index went from %d to %d", e.ModifyIndex, again.ModifyIndex)
	}
}

func entryDelete(t *testing.T, c *api.Client, _ subject) {
	e := newEntry(t, c, lambdaEntry(unique("fn")))
	if gone, _, err := c.ConfigEntries().DeleteCAS(e.Kind, e.Name, e.ModifyIndex-1, nil); err != nil || gone {
		t.Errorf("deleted under a stale index: %v, %v", gone, err)
	}
	for range 2 { // what is not there counts as deleted
		if gone, _, err := c.ConfigEntries().DeleteCAS(e.Kind, e.Name, e.ModifyIndex, nil); err != nil || !gone {
			t.Errorf("not deleted under the right index: %v, %v", gone, err)
		}
	}
	_, _, err := c.ConfigEntries().Get(e.Kind, e.Name, nil)
	if status := (api.StatusError{}); !errors.As(err, &status) || status.Code != http.StatusNotFound ||
		status.Body != fmt.Sprintf("Config entry not found for %q / %q", e.Kind, e.Name) {
		t.Errorf("reading what is gone: %v", err)
	}
}

func rootsListed(t *testing.T, c *api.Client, _ subject) {
	roots, meta, err := c.Agent().ConnectCARoots(nil)
	ok(t, err)
	cluster, _, err := c.Connect().CARoots(nil)
	ok(t, err)
	if d := cmp.Diff(cluster, roots); d != "" || meta.LastIndex == 0 {
		t.Errorf("agent and cluster differ, or the index %d is none: %s", meta.LastIndex, d)
	}
	active := 0
	for _, r := range roots.Roots {
		if r.Active {
			active++
			if r.ID != roots.ActiveRootID {
				t.Errorf("active %s, ActiveRootID %s", r.ID, roots.ActiveRootID)
			}
		}
		if b, rest := pem.Decode([]byte(r.RootCertPEM)); b == nil || len(rest) != 0 || !strings.HasSuffix(r.RootCertPEM, "\n") {
			t.Error("a root is not one PEM block that ends its line")
		}
		if r.Name == "" || len(r.ID) != 59 || r.CreateIndex == 0 || r.ModifyIndex < r.CreateIndex {
			t.Errorf("root %+v", r)
		}
	}
	if active != 1 || !strings.HasSuffix(roots.TrustDomain, ".consul") {
		t.Errorf("%d active roots in %q", active, roots.TrustDomain)
	}
}

func leafGood(t *testing.T, c *api.Client, who subject) {
	name := unique("web")
	leaf, meta, err := c.Agent().ConnectCALeaf(name, nil)
	ok(t, err)
	roots, _, err := c.Agent().ConnectCARoots(nil)
	ok(t, err)
	pair, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM))
	ok(t, err)
	pool := x509.NewCertPool()
	for _, r := range roots.Roots {
		pool.AppendCertsFromPEM([]byte(r.RootCertPEM))
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	self, err := c.Agent().Self()
	ok(t, err)
	want := fmt.Sprintf("spiffe://%s/ns/default/dc/%s/svc/%s", roots.TrustDomain, self["Config"]["Datacenter"], name)
	if uris := pair.Leaf.URIs; len(uris) != 1 || uris[0].String() != want || leaf.ServiceURI != want || leaf.Service != name {
		t.Errorf("identity %v, %s, %s, want %s", uris, leaf.ServiceURI, leaf.Service, want)
	}
	if !leaf.ValidAfter.Equal(pair.Leaf.NotBefore) || !leaf.ValidBefore.Equal(pair.Leaf.NotAfter) ||
		leaf.ValidBefore.Sub(leaf.ValidAfter) != 72*time.Hour || time.Since(leaf.ValidAfter) < 50*time.Second {
		t.Errorf("valid from %v to %v", leaf.ValidAfter, leaf.ValidBefore)
	}
	if got := hexPairs(pair.Leaf.SerialNumber.Bytes()); leaf.SerialNumber != got {
		t.Errorf("serial number %s, want %s", leaf.SerialNumber, got)
	}
	if !strings.HasPrefix(leaf.PrivateKeyPEM, "-----BEGIN EC ") || meta.LastIndex != leaf.ModifyIndex || leaf.ModifyIndex == 0 {
		t.Errorf("key of another kind, or index %d of a leaf of index %d", meta.LastIndex, leaf.ModifyIndex)
	}
	again, _, err := c.Agent().ConnectCALeaf(name, nil)
	ok(t, err)
	if d := cmp.Diff(leaf, again); d != "" {
		t.Errorf("a young leaf was renewed: %s", d)
	}
	a := request(t, http.MethodGet, "http://"+who.addr+"/v1/agent/connect/ca/leaf/"+name, "")
	got := tree(t, a.body).(map[string]any)
	for k := range got {
		got[k] = nil
	}
	fields := map[string]any{"SerialNumber": nil, "CertPEM": nil, "PrivateKeyPEM": nil, "Service": nil, "ServiceURI": nil,
		"ValidAfter": nil, "ValidBefore": nil, "CreateIndex": nil, "ModifyIndex": nil}
	if d := cmp.Diff(fields, got); d != "" {
		t.Error(d)
	}
}

func leafBlocks(t *testing.T, c *api.Client, _ subject) {
	name := unique("web")
	leaf, meta, err := c.Agent().ConnectCALeaf(name, nil)
	ok(t, err)
	began := time.Now()
	again, _, err := c.Agent().ConnectCALeaf(name, &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 200 * time.Millisecond})
	ok(t, err)
	if waited := time.Since(began); waited < 180*time.Millisecond || again.SerialNumber != leaf.SerialNumber {
		t.Errorf("waited %v for a leaf that is %v", waited, again.SerialNumber)
	}
}

func noPeering(t *testing.T, c *api.Client, _ subject) {
	if p, _, err := c.Peerings().Read(t.Context(), unique("peer"), nil); err != nil || p != nil {
		t.Errorf("got %+v, %v", p, err)
	}
	list, _, err := c.Peerings().List(t.Context(), nil)
	ok(t, err)
	if list == nil {
		t.Error("no peerings are a null, want an empty list")
	}
}

func keys(t *testing.T, c *api.Client, _ subject) {
	kv, key := c.KV(), unique("dir")+"/key"
	if p, _, err := kv.Get(key, nil); err != nil || p != nil {
		t.Errorf("a missing key: %v, %v", p, err)
	}
	p := &api.KVPair{Key: key, Value: []byte("one"), Flags: 1 << 60}
	if set, _, err := kv.CAS(p, nil); err != nil || !set {
		t.Fatalf("a new key under the index 0: %v", err)
	}
	got, meta, err := kv.Get(key, nil)
	ok(t, err)
	if string(got.Value) != "one" || got.Flags != 1<<60 || got.CreateIndex != got.ModifyIndex || meta.LastIndex != got.ModifyIndex {
		t.Errorf("got %+v under %d", got, meta.LastIndex)
	}
	p.Value, p.ModifyIndex = []byte("two"), got.ModifyIndex+1
	if set, _, err := kv.CAS(p, nil); err != nil || set {
		t.Errorf("set under a stale index: %v, %v", set, err)
	}
	if gone, _, err := kv.DeleteCAS(p, nil); err != nil || gone {
		t.Errorf("deleted under a stale index: %v, %v", gone, err)
	}
	p.ModifyIndex--
	if set, _, err := kv.CAS(p, nil); err != nil || !set {
		t.Errorf("not set under the right index: %v", err)
	}
	if list, _, err := kv.List(key[:len(key)-1], nil); err != nil || len(list) != 1 || string(list[0].Value) != "two" {
		t.Errorf("list: %v, %v", list, err)
	}
	for range 2 {
		_, err = kv.Delete(key, nil)
		ok(t, err)
	}
	if gone, _, err := kv.DeleteCAS(p, nil); err != nil || !gone {
		t.Errorf("deleting a missing key under an index: %v, %v", gone, err)
	}
	if list, _, err := kv.List(key, nil); err != nil || list != nil {
		t.Errorf("list of nothing: %v, %v", list, err)
	}
}

func listings(t *testing.T, c *api.Client, _ subject) {
	node, name := newNode(t, c), unique("svc")
	for i, tags := range [][]string{{"b"}, {"a", "b"}} {
		register(t, c, &api.CatalogRegistration{Node: node, SkipNodeUpdate: true, Service: &api.AgentService{
			ID: fmt.Sprint(name, i), Service: name, Tags: tags,
		}})
	}
	services, _, err := c.Catalog().Services(nil)
	ok(t, err)
	if got := services[name]; len(got) != 2 || services["consul"] == nil {
		t.Errorf("tags %v of the service, %v of consul", got, services["consul"])
	}
	nodes, _, err := c.Catalog().Nodes(nil)
	ok(t, err)
	names := make(map[string]bool)
	for _, n := range nodes {
		names[n.Node] = true
	}
	if !names[node] || len(nodes) < 2 {
		t.Errorf("nodes %v", names)
	}
	dcs, err := c.Catalog().Datacenters()
	ok(t, err)
	self, err := c.Agent().Self()
	ok(t, err)
	if len(dcs) == 0 || dcs[0] != self["Config"]["Datacenter"] {
		t.Errorf("datacenters %v of an agent in %v", dcs, self["Config"]["Datacenter"])
	}
	if leader, err := c.Status().Leader(); err != nil || !strings.Contains(leader, ":") {
		t.Errorf("leader %q, %v", leader, err)
	}
}

// word is one request and the exact answer to it. NODE and NAME stand for the
// case's own.
type word struct {
	method, path, body string
	status             int
	want               string // JSON is compared as such
}

func wordForWord(t *testing.T, c *api.Client, who subject) {
	node, name := newNode(t, c), unique("svc")
	const reg, dereg, config, defaults = "/catalog/register", "/catalog/deregister", "/config", "/config/service-defaults/NAME"
	for _, w := range []word{
		{"GET", "/catalog/node-services/NAME", "", 200, `{"Node":null,"Services":null}`},
		{"GET", "/catalog/service/NAME", "", 200, `[]`},
		{"GET", "/catalog/node-services/NODE?ns=*", "", 400, `Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`},
		{"GET", "/catalog/services?partition=default", "", 400, `Invalid query parameter: "partition" - Partitions are a Consul Enterprise feature`},
		{"GET", "/catalog/nodes?dc=nowhere", "", 500, `No path to datacenter`},
		{"GET", "/catalog/nodes?index=abc", "", 400, `Invalid index`},
		{"GET", reg, "", 405, `method GET not allowed`},
		{"PUT", reg, `{}`, 500, `Must provide node`},
		{"PUT", reg, `{"Node":"NAME"}`, 500, `Must provide address if SkipNodeUpdate is not set`},
		{"PUT", reg, `x`, 400, `Request decode failed: invalid character 'x' looking for beginning of value`},
		{"PUT", reg, `{"Node":"NODE","Bogus":1}`, 400, `Request decode failed: json: unknown field "Bogus"`},
		{"PUT", reg, `{"Node":"NODE","Namespace":"x"}`, 400,
			`Request decode failed: json: unknown field "Namespace" - Namespaces are a Consul Enterprise feature`},
		{"PUT", reg, `{"Node":"NODE","Partition":"x"}`, 400, `Request decode failed: json: unknown field "Partition"`},
		{"PUT", reg, `{"Node":"NODE","SkipNodeUpdate":true,"Service":{"Service":"x","Namespace":"y"}}`, 400,
			`Request decode failed: json: unknown field "Namespace" - Namespaces are a Consul Enterprise feature`},
		{"PUT", reg, `{"Node":"NODE","Address":"192.0.2.1","Datacenter":"nowhere"}`, 500, `No path to datacenter`},
		{"PUT", reg, `{"Node":"NODE","SkipNodeUpdate":true,"Service":{}}`, 500,
			`service name (Service.Service) is required; both Service ID (Service.ID) and Service Name cannot be empty`},
		{"PUT", reg, `{"Node":"NODE","SkipNodeUpdate":true,"Service":{"ID":"x"}}`, 500,
			`Must provide service name (Service.Service) when service ID is provided`},
		{"PUT", reg, `{"Node":"NODE","SkipNodeUpdate":true,"Service":{"Service":"x","Address":"0.0.0.0"}}`, 500, `Invalid service address`},
		{"PUT", reg, `{"Node":"NODE","SkipNodeUpdate":true,"Service":{"Service":"x","Meta":{"consul-x":"y"}}}`, 500,
			`failed inserting service: Invalid Service Meta for node NODE and serviceID x: ` +
				`Couldn't load metadata pair ('consul-x', 'y'): Key prefix 'consul-' is reserved for internal use`},
		// ?dc= is not read by writes to the catalog.
		{"PUT", reg + "?dc=nowhere", `{"Node":"NODE","SkipNodeUpdate":true,"Service":{"Service":"NAME"}}`, 200, `true`},
		{"PUT", dereg, `{}`, 500, `Must provide node`},
		{"PUT", dereg, `{"Node":"NODE","ServiceID":"nope"}`, 200, `true`},
		{"PUT", dereg, `{"Node":"NAME"}`, 200, `true`},
		{"PUT", "/txn", `x`, 400, `Failed to parse body: invalid character 'x' looking for beginning of value`},
		{"PUT", "/txn?dc=nowhere", `[{"Node":{"Verb":"delete","Node":{"Node":"NAME"}}}]`, 500, `No path to datacenter`},
		{"PUT", "/txn", `[{"Node":{"Verb":"delete","Node":{"Node":"NAME"}}}]`, 200, `{"Results":[],"Errors":null}`},
		{"PUT", "/txn", `[{"Node":{"Verb":"get","Node":{"Node":"NAME"}}}]`, 409,
			`{"Results":null,"Errors":[{"OpIndex":0,"What":"node \"NAME\" doesn't exist"}],"Index":1,"LastContact":0,"KnownLeader":true,` +
				`"ConsistencyLevel":"","NotModified":false,"Backend":0,"ResultsFilteredByACLs":false}`},
		{"GET", defaults, "", 404, `Config entry not found for "service-defaults" / "NAME"`},
		{"GET", "/config/service-defaults?ns=*", "", 400, `Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`},
		{"GET", "/config/service-defaults?dc=nowhere", "", 500, `No path to datacenter`},
		{"GET", "/config/bogus", "", 500, `invalid config entry kind: bogus`},
		{"GET", "/config/bogus/x", "", 500, `invalid config entry kind: bogus`},
		{"DELETE", "/config/bogus/x", "", 400, `invalid config entry kind: bogus`},
		{"DELETE", "/config/service-defaults", "", 404, `Must provide both a kind and name to delete`},
		{"DELETE", defaults, "", 200, `{}`},
		{"DELETE", defaults + "?cas=5", "", 200, `true`},
		{"POST", defaults, "", 405, `method POST not allowed`},
		{"PUT", config, `x`, 400, `Request decoding failed: invalid character 'x' looking for beginning of value`},
		{"PUT", config, `{}`, 400, `Request decoding failed: Payload does not contain a kind/Kind key at the top level`},
		{"PUT", config, `{"Kind":1}`, 400, `Request decoding failed: Kind value in payload is not a string`},
		{"PUT", config, `{"Kind":"bogus"}`, 400, `Request decoding failed: invalid config entry kind: bogus`},
		{"PUT", config, `{"Kind":"service-defaults"}`, 500, `Name is required`},
		{"PUT", config, `{"Kind":"service-defaults","Name":"*"}`, 500,
			`service-defaults name must be the name of a service, and not a wildcard`},
		{"PUT", config, `{"Kind":"proxy-defaults","Name":"NAME"}`, 500, `invalid name ("NAME"), only "global" is supported`},
		{"PUT", config, `{"Kind":"service-defaults","Name":"NAME","Namespace":"n"}`, 400,
			"Request decoding failed: 1 error occurred:\n\t* invalid config key \"Namespace\", namespaces are a consul enterprise feature\n\n"},
		{"PUT", config, `{"Kind":"service-defaults","Name":"NAME","Protocol":"ftp"}`, 500,
			"1 error occurred:\n\t* invalid value for protocol: ftp\n\n"},
		{"PUT", config, `{"Kind":"service-defaults","Name":"NAME","EnvoyExtensions":[{"Name":"builtin/aws/lambda","Arguments":{}}]}`, 500,
			"1 error occurred:\n\t* invalid EnvoyExtensions[0][builtin/aws/lambda]: 1 error occurred:\n\t* ARN is required\n\n\n\n"},
		{"PUT", config, `{"Kind":"service-defaults","Name":"NAME","EnvoyExtensions":[{"Name":"builtin/no","Arguments":{}},{"Arguments":{}}]}`, 500,
			"2 errors occurred:\n\t* invalid EnvoyExtensions[0][builtin/no]: name \"builtin/no\" is not a built-in extension\n" +
				"\t* invalid EnvoyExtensions[1]: Name is required\n\n"},
		{"PUT", config + "?cas=foo", `{"Kind":"service-defaults","Name":"NAME"}`, 500, `strconv.ParseUint: parsing "foo": invalid syntax`},
		{"GET", "/connect/ca/roots?dc=nowhere", "", 500, `No path to datacenter`},
		{"GET", "/connect/ca/roots?pem=perhaps", "", 400, `The 'pem' query parameter must be a boolean value`},
		{"GET", "/agent/connect/ca/leaf/", "", 500, `URI must be either service, agent, server, or kind`},
		{"GET", "/agent/connect/ca/leaf/NAME?ns=x", "", 400, `Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`},
		{"GET", "/peering/NAME", "", 404, `Peering not found for "NAME"`},
		{"GET", "/peering/", "", 400, `Must specify a name to fetch.`},
		{"GET", "/kv/NAME", "", 404, ``},
		{"GET", "/kv/", "", 400, `Missing key name`},
		{"PUT", "/kv/NAME?cas=3", "x", 200, `false`},
		{"DELETE", "/kv/NAME", "", 200, `true`},
		{"GET", "/no/such/thing", "", 404, "Invalid URL path: not a recognized HTTP API endpoint\n"},
	} {
		own := strings.NewReplacer("NODE", node, "NAME", name).Replace
		a := request(t, w.method, "http://"+who.addr+"/v1"+own(w.path), own(w.body))
		if want := own(w.want); a.status != w.status || !sameText(t, want, a.body) {
			t.Errorf("%s %s %s\n got %d %q\nwant %d %q", w.method, own(w.path), own(w.body), a.status, a.body, w.status, want)
		}
		if kind := a.header.Get("Content-Type"); w.status/100 != 2 && w.status != 409 && w.want != "" && kind != "text/plain; charset=utf-8" {
			t.Errorf("%s %s: an error of type %q", w.method, w.path, kind)
		}
	}
}

// sameText compares JSON as such, and other text exactly.
func sameText(t *testing.T, want, got string) bool {
	if json.Valid([]byte(want)) && json.Valid([]byte(got)) {
		return cmp.Equal(tree(t, want), tree(t, got))
	}
	return want == got
}
