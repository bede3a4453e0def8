// SPDX-License-Identifier: MPL-2.0

package main

// Run is the whole life of the process, for tests that count what it holds.
var Run = run
