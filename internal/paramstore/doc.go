// SPDX-License-Identifier: MPL-2.0

// Package paramstore reads and writes credential documents in AWS Systems
// Manager Parameter Store. It is a thin adapter over the AWS SDK's client:
//
//	store, err := paramstore.New(paramstore.Config{})
//	if err != nil { … } // the environment is wrong; the error says where
//	document, err := store.Reader("/mesh/default/default/fn").Fetch(ctx)
//	if errors.Is(err, paramstore.ErrNotFound) { … }
//
// New touches no network and does without the SDK's configuration loader: in a
// Lambda sandbox all there is to load is in the environment. These variables
// have the meaning that every AWS SDK gives them:
//
//	AWS_REGION, AWS_DEFAULT_REGION
//	AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT
//	AWS_ENDPOINT_URL_SSM, AWS_ENDPOINT_URL, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS
//	AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//	AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI,
//	AWS_CONTAINER_AUTHORIZATION_TOKEN, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
//	AWS_CA_BUNDLE, HTTPS_PROXY, HTTP_PROXY, NO_PROXY
//
// Every call is one attempt, bounded by its context and by limits of its own
// (see Config.AttemptTimeout). Nothing is retried here: when to try again, in a
// burst of a thousand cold starts or in a run against a deadline, is known to
// the caller only.
//
// Errors are *Error: one line with the parameter, what happened and what to do
// about it. What happened is for errors.Is and the sentinels. A stored value is
// in no error, and nothing is logged.
//
// Ownership: a Store may be shared and needs no closing; Close drops its idle
// connections. Readers and Writers hold nothing.
//
// Not here: profiles, single sign-on, instance metadata and web identities (this
// is for functions, not for laptops), a cache, retries, and what the documents
// mean.
package paramstore
