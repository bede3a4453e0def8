// SPDX-License-Identifier: MPL-2.0

// Package consulsim is a small Consul on loopback: a real HTTP server that the
// unmodified client github.com/hashicorp/consul/api cannot tell from a Consul
// agent in the operations it has. It follows Consul 1.22 in status codes, in
// the text of errors, and in what is null, empty or missing; the cases of
// conformance_test.go say the same to both.
//
//	srv, err := consulsim.Start(consulsim.Config{})
//	if err != nil { … }
//	defer srv.Close()
//	srv.FailNext(consulsim.OpRegister, 2, consulsim.NoLeader())
//	… // run a client against srv.Addr()
//	if n := srv.Count(consulsim.OpRegister); n != 3 { … }
//
// The operations are the constants Op…. The rules that shape a client are kept:
//
//   - names of nodes, services and entries are one whatever their case;
//   - a write that changes nothing keeps its ModifyIndex;
//   - a transaction is all or nothing, and has 128 operations at most;
//   - a config entry is a raw JSON object: what the server does not know of it
//     is kept as it came. A write of what is there already is answered true even
//     if its cas index is stale. Entries live in the primary datacenter and are
//     copied to the others, where they have indexes of their own;
//   - catalog writes take their datacenter from the body, not from ?dc=;
//   - a plain read of a leaf renews it only past 90 % of its life or when
//     another root became active. A blocking one, which waits while its ?index=
//     is current, renews at 75 %, the middle of the window in which Consul picks
//     a moment at random, and at once when the root changes, without Consul's
//     jitter of up to 30 s;
//   - signing can be limited in rate: who waited 500 ms for it gets a 429;
//   - several servers behind one address give different leaves.
//
// Blocking queries wait for roots and leaves only, looking every few milliseconds
// because both the clock and the CA belong to the caller. All other reads are
// answered at once, which Consul's contract allows.
//
// Where it is laxer than Consul: fields of an entry that it does not know are
// accepted (Consul refuses those newer than itself); arguments of Envoy
// extensions other than builtin/aws/lambda are not looked at; health checks are
// accepted and forgotten. Where it is stricter: a leaf is given to who has
// service:write also when it is in the cache (an agent hands a cached one to any
// token), and only for the local datacenter.
//
// With Config.Enterprise, partitions and namespaces are honoured as the
// documentation has them; that was never compared with a Consul Enterprise.
//
// Ownership: Start's caller closes the Server; Close ends its goroutines and
// every connection, hung ones too. The CA stays the caller's.
//
// Non-goals: Raft, gossip, DNS, gRPC, health, sessions, intentions, and the ACL
// endpoints. Private keys of leaves are kept in memory while they are current,
// and are neither logged nor part of [Server.State].
package consulsim
