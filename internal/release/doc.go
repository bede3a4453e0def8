// SPDX-License-Identifier: MPL-2.0

// Command release turns a folder of binaries into what is published: for every PLATFORM/consul-lambda-extension in it a Lambda layer,
// consul-lambda-extension_PLATFORM.zip, and then SHA256SUMS over all files.
//
//	go run ./internal/release dist
//
// A layer holds one file, extensions/consul-lambda-extension. Lambda unpacks it to /opt and starts everything under /opt/extensions, so
// a second file there, a license or the binary of another architecture, would fail every function that uses the layer.
//
// The same binaries give the same bytes, on any day and machine, with the same version of Go. It builds, signs and uploads nothing.
package main
