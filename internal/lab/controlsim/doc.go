// SPDX-License-Identifier: MPL-2.0

// Package controlsim is a small AWS control plane on loopback: the functions of one account in one region, as Lambda,
// the Resource Groups Tagging API and STS show them, and the events that EventBridge delivers about their changes. An
// unmodified AWS SDK, pointed at it with AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API and
// AWS_ENDPOINT_URL_STS (one URL serves all three), cannot tell the difference in the operations it has:
//
//   - Lambda (REST JSON): CreateFunction, GetFunction, GetFunctionConfiguration, ListFunctions, DeleteFunction (with a
//     qualifier: a version), PublishVersion, TagResource, UntagResource, ListTags, CreateAlias, UpdateAlias, GetAlias,
//     ListAliases, DeleteAlias
//   - tagging (AWS JSON 1.1): GetResources
//   - STS (Query): GetCallerIdentity
//
// A test fills the account directly and watches what a client makes of it:
//
//	srv, err := controlsim.Start(controlsim.Config{OnEvent: func(event []byte) { … }})
//	if err != nil { … }
//	defer srv.Close()
//	srv.AddFunction("orders", map[string]string{"team": "shop"})
//	srv.FailNext("GetFunction", 3, controlsim.Throttled())
//	srv.Deny("tag:GetResources")
//	… // run a client against srv.URL()
//	if n := srv.Count("ListFunctions"); n != 1 { … }
//
// The rules that shaped the product are kept: 50 functions a page whatever is asked, no tags in a listing, TagsError
// instead of tags where lambda:ListTags is not allowed, 404 for what is not there, pages of GetResources that may come
// short or empty, tags that the tagging API sees later than Lambda ([Server.LagTags]), rate limits by family of calls
// ([AWSLimits]), the limits of tags, and events that come twice and out of order ([Config]).
//
// Faults, recorded calls and RequireAuth are those of package awswire. They name a function by its plain name, however
// the request spelt it.
//
// Ownership: Start's caller closes the Server. Close ends its goroutines and every connection, hung ones too, and waits
// for the call of OnEvent that is under way; events not yet delivered are dropped. OnEvent must not call Close.
//
// Non-goals: code and invocations, configuration updates, layers, policies of functions, other resource types, routing
// weights of aliases, ListFunctions over versions, compliance reports, and verifying signatures.
package controlsim
