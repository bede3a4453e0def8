// SPDX-License-Identifier: MPL-2.0

// Soak is the evidence that the extension holds under failure. It has two halves, both of which run the extension that is
// shipped, in the lab's sandbox, against a mesh and a store that fail on purpose.
//
// The fault matrix is a test: every kind of fault meets every phase of a connection, and of a sandbox's life, in which it can
// strike. `make test-faults` runs it alone, and prints it.
//
// The soak is this command. For as long as it is told it keeps calls of many kinds going, whose every byte is known in
// advance, and breaks something else every few seconds; at least half of the time nothing is broken:
//
//	go run ./internal/soak -for 20m
//
// It exits 1 if a byte was wrong, if a call failed for which no fault answers, if a stream that was cut looked complete, if
// something hung, or if memory, descriptors or threads grew. Its last words are a table for docs/operations.md.
//
// # How a failure is attributed
//
// A call says who it is in its first line, so that the service knows which connection carries it. A fault that strikes one
// connection is told to the gateway by that connection's address, and answers for the call on it and no other. A fault that
// strikes all (a gateway that refuses) answers for calls of the phase that it can harm (making the connection, or the stream)
// that ended while it was in force or within a second after; to those that were being dialled when it ended, which wait for
// the dial timeout, within a second after that.
//
// # What it is not
//
// It says nothing of speed (package bench does), nor of a real mesh gateway, Envoy or AWS: the lab stands in for them. What
// needs a clock that jumps, a resolver of the test's own, or a count of goroutines is tested in one process: see matrix_linux_test.go.
package main
