// SPDX-License-Identifier: MPL-2.0

// Package repotest holds every file of this repository to a few rules that no compiler or linter knows: the license line, a word about
// each package, no unfinished marks, nothing that belongs to one machine or to nobody but its owner (paths, registries, keys), and
// pages that point at what is there.
//
// It has no code outside its tests. rules_test.go is the rules, each a function from a file to complaints, and seeded_test.go shows
// each rule a file that breaks it. markdown_test.go is what pages and workflows point at: files, headings, tests, targets of make.
// messages_test.go and documented_test.go hold what the programs log, read and count against the pages that explain it.
// parameters_test.go is the one rule about Go code that no linter has: more than three parameters are a struct.
//
// It reads text. What packages may import is for deptest, how Go code is written for the linters.
package repotest
