// SPDX-License-Identifier: MPL-2.0

// Package e2e proves the product against a real Consul: its tests run the shipped programs, unmodified, between a Consul server
// (package consulproc) and the lab's Lambda, control plane and Parameter Store. It has no code but tests.
//
//	make test-e2e
//
// They run when E2E is 1 and there is a Consul program; CONSUL_REQUIRED=1 makes a missing program a failure. What stands in for what:
//
//   - The sidecars of destinations are Consul's own `connect proxy`, which asks the server about every connection. It carries bytes
//     and does no more: half-close, resets and session resumption are shown in the lab, in cmd/consul-lambda-extension's tests and
//     in those of package tlsstate. Where a destination has to outlive its Consul, or trust a peer, it is a TLS server of the test
//     with a leaf of the real Consul's.
//   - The mesh gateway is the lab's (meshsim.Gateway): it routes by server name and does not decrypt. Which names a real one has is
//     read from the configuration that Consul serves for one.
//   - No Envoy runs. That what we write makes Envoy invoke a function is read from the same configuration, by tools/xds.
//   - A leaf is renewed past 90 % of its life, so no test here can wait for it: G8 is shown by consulproc's
//     TestAPlainReadOfALeafRenewsOnlyPastNinetyPercentOfItsLife (CONSUL_LONG=1, nine minutes), and its use by package registrator's
//     tests of leaves.
//
// Nothing here is Enterprise.
package e2e
