// SPDX-License-Identifier: MPL-2.0

// Package labtest is the main function and the programs of a test package that runs the product in the lab.
//
//	func TestMain(m *testing.M) { labtest.Main(m, 6) }
//
//	func TestSomething(t *testing.T) {
//		w, err := lab.New(t.Context(), lab.Config{Programs: labtest.Programs(t, lab.BuildOptions{})})
//
// The programs are built when the first test asks for them, once for the test process, and removed by Main. The package has no
// opinion on the worlds that they run in: those are package lab's, and each belongs to the test that makes it.
package labtest
