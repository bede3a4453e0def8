// SPDX-License-Identifier: MPL-2.0

// Package lambdaext is a client of the AWS Lambda Extensions API, version 2020-01-01.
//
// An external extension registers once, says that it is ready by asking for its first event, and then waits for events:
//
//	client, err := lambdaext.Register(ctx, lambdaext.Config{RuntimeAPI: os.Getenv("AWS_LAMBDA_RUNTIME_API"), Name: name}, lambdaext.Shutdown)
//	...
//	defer client.Close()
//	event, err := client.Next(ctx) // the sandbox may be frozen for hours in here
//
// A Client exists only once it is registered, so that no call can be made without the identifier that the API gave it.
//
// The sandbox decides how the client talks: it never uses a proxy (HTTP_PROXY belongs to the function, and the API is
// inside the sandbox), it sets no time limit and sends no TCP keepalives of its own, because after a freeze either would
// be a false alarm, and it keeps its connection open so that registering and the first Next cost one TCP handshake.
//
// What the API answers is bounded and never trusted to be well-formed: a strange answer is an error or a zero field,
// as each type says.
//
// The package does not retry, log, start goroutines of its own or act on events; it knows nothing of the Runtime API,
// the Telemetry API or internal extensions. The caller owns the Client and closes it; the contexts it passes are the
// only bounds on time.
package lambdaext
