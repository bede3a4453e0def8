// SPDX-License-Identifier: MPL-2.0

// Command release turns a folder of binaries, one folder below it for each platform, into what is published:
//
//	go run ./internal/release dist
//
//	dist/linux_amd64/consul-lambda-extension             as the Makefile left it
//	dist/linux_amd64/consul-lambda-extension-licenses/   LICENSE, and THIRD-PARTY-LICENSES of all that is linked into it
//	dist/consul-lambda-extension_linux_amd64.zip         the same, as a Lambda layer
//	dist/consul-lambda-registrator_linux_amd64.zip       the same, as a Lambda function (bootstrap, for provided.al2023)
//	dist/consul-lambda_darwin_arm64.zip                  the same, for a person
//	dist/SHA256SUMS                                      over all files
//
// The folder extensions/ of a layer holds one file, extensions/consul-lambda-extension. Lambda unpacks it to /opt and starts everything
// under /opt/extensions, so a second file there, a license or the binary of another architecture, would fail every function that
// uses the layer. The licenses lie beside it.
//
// The same binaries give the same bytes, on any day and machine, with the same version of Go. It builds, signs and uploads nothing.
package main
