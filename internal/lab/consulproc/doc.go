// SPDX-License-Identifier: MPL-2.0

// Package consulproc runs the real `consul` program as a child process: one server of one datacenter on loopback, with a
// certificate authority, peering and, if asked for, access control. It is what the small stand-ins of the lab are held
// against.
//
//	binary, err := consulproc.Find("bin")
//	server, err := consulproc.Start(ctx, consulproc.Config{Binary: binary, ACL: true})
//	defer server.Close()
//	client, err := api.NewClient(&api.Config{
//		Address: server.Addr(), Scheme: "http", Token: server.Token(), HttpClient: server.HTTPClient(),
//	})
//
// The server keeps its state on disk, not in development mode, so that [Server.Stop], [Server.Kill] and
// [Server.Restart] are what an operator sees: the same data, addresses and tokens afterwards. [Server.ConnectProxy] runs
// Consul's built-in proxy beside it, as the sidecar of a destination.
//
// Everything listens on 127.0.0.1, on ports that were free, and nothing is asked of the outside: no update check, no
// telemetry, no user interface. Children get an empty environment, so no CONSUL_* variable of the caller has a say.
//
// Ownership: the caller of Start closes the Server; [Server.Close] ends its proxies and the server by process id, and
// removes the folder. On Linux the kernel also kills each of them when this process dies, however that happens; the
// folder stays behind then.
//
// Non-goals: several servers in one datacenter, TLS between agents, Enterprise, Envoy. The client of Consul's API is left
// to the caller, because only adapters and mains link it.
package consulproc
