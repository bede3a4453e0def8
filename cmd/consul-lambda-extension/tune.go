// SPDX-License-Identifier: MPL-2.0

package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/consul-lambda/consul-lambda/internal/bufpool"
)

// What the extension takes of the function's memory (R17).
const (
	assumedMB = 128 // the smallest function, if Lambda does not say

	// gcPercent lets the heap grow by half before it is collected: it is small, so that collecting it is cheap, and what
	// it does not use is the function's.
	gcPercent = 50

	// The soft limit makes the collector work harder when many connections are open, at half of the function's memory.
	// It is well above what the buffers and the default number of connections can take, so that it cannot starve.
	memoryShare = 2

	// fullCPU is the memory, in MB, with which a function has one vCPU (docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html).
	fullCPU = 1769

	// The relay buffers together, and nothing else of that size is ever borrowed.
	buffersShare = 8
)

// tune sets the collector for the function's size, whatever the function's own GOGC, GOMEMLIMIT and
// GODEBUG say: these are inherited, meant for the function's runtime, and could stop the collector here.
func tune(functionMemoryMB int) {
	_ = os.Unsetenv("GODEBUG") // takes effect at once on the settings that the libraries read
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryBytes(functionMemoryMB) / memoryShare)
}

// fitCPU is called when Init is over, for which Lambda lends two vCPUs. From then on there are as many threads as the function
// has whole vCPUs, and one at the least. With more, they use up together what the scheduler lets them have in a period, and
// then stand still until the next one: of 160 new connections at the CPU share of 128 MB the slowest took 7.6 ms with two
// threads, 1.4 ms with one. And they wake each other: with one vCPU a new connection and its next spare took 1,000 us of CPU
// with two threads, 800 with one.
func fitCPU(functionMemoryMB, cpus int) {
	whole := int(memoryBytes(functionMemoryMB) / (fullCPU << 20))
	runtime.GOMAXPROCS(min(max(whole, 1), cpus))
}

func bufferPool(functionMemoryMB int) *bufpool.Pool {
	return bufpool.New(memoryBytes(functionMemoryMB) / buffersShare)
}

func memoryBytes(mb int) int64 {
	if mb == 0 {
		mb = assumedMB
	}
	return int64(mb) << 20
}
