// SPDX-License-Identifier: MPL-2.0

// Package lambdaapi is what the registrator needs of AWS Lambda and of the tagging API: it implements registrator.Functions over
// the AWS SDK.
//
//	functions := lambdaapi.New(lambdaapi.Config{AWS: cfg, Log: log})
//	listing, err := functions.List(ctx, cursor) // tagged functions, 100 a call; or any functions, page by page
//	function, err := functions.Get(ctx, "fn")   // errors.Is(err, registrator.ErrNoFunction): AWS says there is none
//
// Every attempt, a retried one too, waits for its API's rate first. Throttling, 5xx answers and broken connections are tried up to
// six times with jittered backoff; an error says how many tries there were. Each call is bounded by its context and by
// Config.Timeout.
//
// What is not known is an error: a page that fails, a function whose tags may not be read, an ARN that cannot be parsed. None of
// them ever makes a shorter listing (G2).
//
// Ownership: a Client may be shared, keeps no goroutine and needs no closing; its connections belong to Config.AWS.
//
// Not here: what tags mean, which functions are enabled, and the bookkeeping of cursors between runs. Nothing of a function but its
// ARN and tags leaves this package: the rest of AWS's answer (environment variables among it) is in no error and no log.
package lambdaapi
