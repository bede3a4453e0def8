// SPDX-License-Identifier: MPL-2.0

// Package labtest is the main function and the programs of a test package that runs the product in the lab.
//
//	func TestMain(m *testing.M) { labtest.Main(m, 6) }
//
//	func TestSomething(t *testing.T) {
//		w, err := lab.New(t.Context(), lab.Config{Programs: labtest.Programs(t, lab.BuildOptions{})})
//
// The programs are built when the first test asks for them, and again when a source has changed, into bin/labtest of the repository,
// where the next test process finds them: linking them anew for each package took a fifth of the time of all tests. `make clean`
// removes them; nobody else may write there, and a source that changes while tests run may show in those that come later. The package has no opinion on the worlds that they run in: those are package lab's,
// and each belongs to the test that makes it.
package labtest
