// SPDX-License-Identifier: MPL-2.0

// Package consulapi is what the registrator needs of Consul: it implements registrator.Consul over consul/api.
//
//	consul, err := consulapi.New(consulapi.Config{Token: token, CACert: pem})
//	if err != nil { … } // the environment is wrong
//	defer consul.Close()
//	node, instances, err := consul.Services(ctx, registrator.Realm{}, "lambdas")
//	err = consul.PutService(ctx, "lambdas", instance) // errors.Is(err, registrator.ErrConflict): somebody was faster
//
// The environment variables of consul/api (CONSUL_HTTP_ADDR and its kin) have their meaning. A token and a CA certificate handed in
// come before them and touch neither the process's environment nor a file.
//
// # Rules
//
// Every write is a compare-and-set. Catalog entries go through /v1/txn, where an instance needs service:write alone and the node
// node:write alone; /v1/catalog/register wants both unless the node is known, and has no compare-and-set. The policy that all of
// this package needs:
//
//	node_prefix ""    { policy = "read" }  # Elsewhere, and to see the node
//	node "NODE_NAME"  { policy = "write" } # PutNode
//	service_prefix "" { policy = "write" } # or the names of the functions
//	peering = "read"                       # Peers
//	agent_prefix ""   { policy = "read" }  # in a federation: which datacenter is the server's own, which the primary
//
// Reads are consistent ones. Answers of 429, 503, "No cluster leader" and "Not ready to serve consistent reads", all of which mean
// that nothing was done, are tried up to six times with jittered backoff; the error says how many. Each attempt is bounded by
// Config.Timeout, everything by the context.
//
// service-defaults are JSON here, not structs: a field that this client does not know survives (G6). Config entries live in the
// primary datacenter, and Consul forwards writes there whatever datacenter is named, so they are listed there too: an index of
// another datacenter would lose every compare-and-set.
//
// A certificate's key is in no error and no log.
//
// # What this package is not
//
// It caches nothing that changes, watches nothing and starts no goroutine. It does not know what is owned or why something is
// written. Services whose names a function cannot have (see package mesh) are left out of listings.
package consulapi
