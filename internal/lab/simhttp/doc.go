// SPDX-License-Identifier: MPL-2.0

// Package simhttp is the HTTP server that the lab's services stand on: one that ends with all its handlers, however they hang, and
// that can break an answer in the ways that a network does.
//
//	srv, err := simhttp.Listen("") // a free port of loopback
//	if err != nil {
//		return err
//	}
//	srv.Serve(handler)
//	defer srv.Close()
//
// Ownership: Listen's caller closes the Server; Close ends its goroutines and every connection, and waits for the handlers, those in
// Sleep and Hang included. Who hijacks a connection closes it.
//
// Non-goals: deciding which answer is broken, and recording calls: the services plan by what they serve, each in its own words.
package simhttp
