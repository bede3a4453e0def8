// SPDX-License-Identifier: MPL-2.0

// Package bench measures whole proxy processes from outside, side by side in one run, and writes what BENCHMARKS.md shows.
//
//	result, err := bench.Run(ctx, bench.Config{Extension: "bin/consul-lambda-extension", Baseline: "bin/bench-baseline"})
//	err = result.WriteJSON(file)
//	err = result.WriteMarkdown(file, "bench/results")
//
// # What is measured
//
// A system is one way from a function to a service of the mesh: our extension (with and without spare connections), the
// in-tree baseline, HAProxy, nginx and stunnel where they are installed, any other extension by name, and two floors: TLS
// without a proxy, and a proxy that only splices. A row is one question asked of each system: see rows.go. Rounds go over
// all rows, and within a row over all systems in an order that turns, so that a machine that slows down slows all of them.
// Each round has processes of its own. A figure is the median of its rounds; a p99 is that of all rounds' latencies
// together.
//
// # Who plays what
//
// This process is the function (the client), the gateway with the destination behind it (one mTLS server in the shape of a
// Consul sidecar: EC P-256, a SPIFFE URI name, client certificate required), the Extensions API and Parameter Store. The
// proxy is a process of its own, unmodified, configured as in Lambda; only its CPU and memory are charged to it. It is told that
// the function has 1,769 MB, which is one vCPU; in the rows of 64 and 400 connections at once, as many vCPUs as there are cores.
//
// # How
//
// CPU time is the process's CPU clock, clock_getcpuclockid(3), summed over its children: nanoseconds from the scheduler,
// threads that have ended included. The ticks of /proc/PID/stat are 10 ms and no more exact: where the kernel does not
// account ticks by itself they are scaled to the same sum. /proc/PID/task/*/schedstat loses ended threads, a cpuacct
// cgroup needs privileges. Interrupts that the kernel takes while the proxy runs are charged to it, which includes loopback's
// delivery to the receiver: the same for all systems, more than a network card would cause.
//
// Memory is the proportional set size of /proc/PID/smaps_rollup, also summed. Socket buffers are the kernel's and not in it.
//
// A round trip time is added by the server's side of each connection: what it reads and writes is held back by half of it
// in each direction. The TCP handshake itself is the kernel's and is not delayed. So at 20 ms a full or resumed TLS 1.3
// handshake and the first answer take two round trips, 40 ms, where a real network takes three (two with a spare's one):
// the figures flatter every system that dials when the function does, and none that has dialled before.
//
// A small function's CPU share is a cpu cgroup with a period of 20 ms and a quota of memory / 1,769 MB of one core, in
// force from the moment that the extension asks for its first event: Lambda lends CPU in Init.
//
// # What it cannot see
//
// The client, the server and the proxy share the machine's cores: on two of them latency includes waiting for each other,
// and throughput is what is left. Loopback has no loss, no congestion and a large MTU. Nothing here is Envoy, or Lambda.
//
// It is not a micro-benchmark (those stand beside their packages) and not a load generator for other people's services.
// It needs Linux; elsewhere [Run] says so.
package bench
