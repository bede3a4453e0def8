// SPDX-License-Identifier: MPL-2.0

// Package certtest makes certificates and credential documents for tests in
// one line each. It is [meshsim.CA] with a testing.TB: what cannot be made
// fails the test.
//
//	ca := certtest.NewCA(t)
//	web := certtest.Service(t, "web")
//	leaf := ca.Leaf(t, ca.ID(t, web))                 // sound, 72 h
//	bad := ca.BadLeaf(t, ca.ID(t, web), meshsim.Expired)
//	doc := ca.Doc(t, certtest.Service(t, "fn"))       // mesh.Document
//	raw := certtest.Encode(t, doc)                    // as it is stored
//
// Keys live in memory only, and nothing has to be closed. It is for tests;
// the lab, which also runs without package testing, uses meshsim itself.
package certtest
