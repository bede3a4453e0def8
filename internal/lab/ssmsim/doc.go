// SPDX-License-Identifier: MPL-2.0

// Package ssmsim is a small Parameter Store on loopback. It speaks the wire
// protocol of AWS Systems Manager (AWS JSON 1.1: POST /, the operation in
// X-Amz-Target) closely enough that an unmodified AWS SDK, pointed at it with
// AWS_ENDPOINT_URL_SSM, cannot tell the difference in the operations it has:
// GetParameter, GetParameters, GetParametersByPath, DescribeParameters,
// PutParameter, DeleteParameter and DeleteParameters.
//
//	srv, err := ssmsim.Start(ssmsim.Config{})
//	if err != nil { … }
//	defer srv.Close()
//	srv.Put("/mesh/default/default/fn", document)
//	srv.FailNext("GetParameter", 3, ssmsim.Throttled())
//	… // run a client against srv.URL()
//	if n := srv.Count("GetParameter"); n != 4 { … }
//
// The rules that shaped the product are kept: versions count up from 1 and the
// last 100 are readable, a Standard value ends at 4,096 bytes and an Advanced
// one at 8,192, a parameter that became Advanced never goes back, ten names per
// GetParameters, and errors in the form AWS gives them. Faults (latency,
// throttling, error answers, hanging, cut and reset connections) can be changed
// while clients run; they, the recorded calls and RequireAuth are those of
// package awswire.
//
// It also has [StartCredentials], the endpoint from which a container, or a
// function restored from a snapshot, gets its credentials.
//
// Ownership: Start's caller closes the Server; Close ends its goroutines and
// every connection, hung ones too.
//
// Non-goals: labels, policies, tags, shared parameters, and cryptography. Values
// are kept in plain memory for the life of the Server and are never logged or
// recorded; signatures are looked at, not verified.
package ssmsim
