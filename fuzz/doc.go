// SPDX-License-Identifier: MPL-2.0

// Package fuzz has the fuzz targets that need the whole path: a function's socket, the proxy, the trust state, a mesh gateway and
// a sidecar, all real and on loopback, in one process. There is nothing to import.
//
//	go test -fuzz FuzzRelay -fuzztime 3m ./fuzz
//
// Each input is a schedule, decoded from bytes so that every input is one: what the two ends do, and what the network does
// to them. Each target states what must hold whatever the schedule is. The corpora under testdata are schedules worth
// keeping; `go test` runs them all.
//
// A parser's own target is not here but beside the parser; tools/fuzz.sh runs all of them.
package fuzz
