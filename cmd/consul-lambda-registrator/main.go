// SPDX-License-Identifier: MPL-2.0

// Command consul-lambda-registrator is a Lambda function that keeps Consul and Parameter Store equal to the tagged functions of an
// AWS account and region. EventBridge invokes it: on a schedule, and when a function is created, deleted or tagged.
//
// It is configured by environment variables, which docs/configuration.md lists, and logs JSON lines to its standard output. An
// invocation fails if anything that it had to do failed, after everything else was done: Lambda then repeats it, and tells its
// failure destination.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/consul-lambda/consul-lambda/internal/logs"
	"github.com/consul-lambda/consul-lambda/internal/registratorenv"
	"github.com/consul-lambda/consul-lambda/internal/version"
)

const program = "consul-lambda-registrator"

func main() {
	settings, invalid := registratorenv.Parse(os.Environ())
	log := logs.New(os.Stdout, settings.LogLevel)
	log.Info(program+" starts", "version", version.String())
	for _, w := range settings.Warnings {
		log.Warn("configuration", "warning", w)
	}
	if invalid != nil {
		log.Error("configuration is invalid: every invocation fails", "error", invalid.Error())
	}
	h := &handler{settings: settings, invalid: invalid, log: log}
	if settings.EMF {
		h.metrics = os.Stdout
	}
	lambda.StartWithOptions(h.handle, lambda.WithContext(context.Background()))
}
