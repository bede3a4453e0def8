// SPDX-License-Identifier: MPL-2.0

// Package documents is the registrator's store of credential documents: it implements registrator.Documents over Parameter Store,
// and adds to package paramstore what a run of many writes needs, a rate and retries.
//
//	docs := documents.New(documents.Config{Store: store, Prefix: "/mesh"})
//	version, err := docs.Put(ctx, "/mesh/default/default/fn", document)
//
// It is apart from paramstore because the extension, which only reads one parameter, links that.
//
// Ownership: the Store given is the caller's. A Documents keeps no goroutine and needs no closing.
//
// Not here: what a document holds, when it is written, and reading it: a registrator never reads one.
package documents
