// SPDX-License-Identifier: MPL-2.0

// Package awswire is what the lab's AWS services have in common: an HTTP server on loopback that records calls, delays
// and breaks answers as told, looks at signatures, and writes answers and errors in the protocols that AWS SDKs read.
// A service gives it one function, which says what an HTTP request asks for and how to do it:
//
//	srv, err := awswire.Start(awswire.Config{Account: account, Read: func(r *http.Request, body []byte) awswire.Request {
//		return awswire.Request{
//			Op: "GetThing", Action: "things:GetThing", Service: "things", Protocol: awswire.JSON11,
//			Do: func() (any, *awswire.Failure) { return thing, nil },
//		}
//	}})
//	defer srv.Close()
//	srv.FailNext("GetThing", 2, awswire.AccessDenied())
//
// A request is recorded first, then delayed, then broken by the first planned fault that matches it. If none does,
// its signature is looked at and it is done.
//
// Ownership: Start's caller closes the Server; Close ends its goroutines and every connection, hung ones too.
//
// Non-goals: state, operations and limits, which are the services' own; verifying signatures; event streams.
package awswire
