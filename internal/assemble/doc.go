// SPDX-License-Identifier: MPL-2.0

// Package assemble makes a registrator out of its configuration, for the Lambda function and for a person who wants to see its plan:
//
//	parts, err := assemble.New(assemble.Config{Settings: settings, AWS: awsConfig, Owner: owner, Log: log})
//	r, err := parts.Registrator(ctx) // reads the token and the CA certificate, if they are kept in Parameter Store
//	result, err := r.Run(ctx, scope)
//
// It holds no rule of its own: what is right is decided in package registrator, and how an API is spoken to in the adapters.
package assemble
