// SPDX-License-Identifier: MPL-2.0

// Package deptest holds the import graph of this module to its design: which package may import which, what the extension binary must
// never link, and which modules go.mod may require. Each rule carries its reason, because the reason is what a reviewer needs when
// a rule is in the way: change the rule with an argument, or the import.
//
// It has no code outside its tests, so that nothing can link it. graph_test.go reads the graph from `go list`, rules_test.go is the
// rules, and seeded_test.go shows each rule a graph that breaks it.
//
// It judges imports only. What a package does with an allowed import, and how the sources look, is for other tests.
package deptest
