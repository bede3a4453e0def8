// SPDX-License-Identifier: MPL-2.0

// Command consul-lambda-extension is an external Lambda extension that connects a function to the services of a Consul
// mesh: it listens on loopback, one port for each upstream, and carries every connection through mTLS to a mesh gateway.
//
// It is configured by environment variables, which README.md lists, and logs JSON lines to its standard output.
// It exits 0 after SHUTDOWN or SIGTERM. It exits 1, after telling Lambda why, only if its configuration is invalid or,
// in strict mode, if there are no credentials: Lambda ends the function when an extension exits (rule R12).
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/extensionenv"
	"github.com/consul-lambda/consul-lambda/internal/logs"
	"github.com/consul-lambda/consul-lambda/internal/version"
	"github.com/consul-lambda/consul-lambda/lambdaext"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args, os.Environ(), os.Stdout)
	stop()
	os.Exit(code)
}

// run is the whole life of the process, and returns its exit code. The end of ctx is a request to shut down.
//
// Its order is the start-up order (R10): what comes before register delays the runtime's start, what comes between
// register and Next overlaps the function's own Init.
func run(ctx context.Context, args, environ []string, stdout io.Writer) (code int) {
	started := time.Now()
	cfg, invalid := extensionenv.Parse(environ)
	log := logs.New(stdout, cfg.LogLevel)
	log.Info("consul-lambda-extension starts", "version", version.String())

	e := &extension{cfg: &cfg, log: log, timings: timings{started: started, on: cfg.Trace, log: log}}
	if cfg.EMF {
		e.metrics = &metrics{out: stdout, log: log, function: cfg.Service.Name()}
	}
	if invalid == nil {
		invalid = e.listen(ctx)
	}
	e.timings.note("listening")

	api, err := lambdaext.Register(ctx, lambdaext.Config{RuntimeAPI: cfg.RuntimeAPI, Name: filepath.Base(args[0])}, lambdaext.Shutdown)
	if err != nil {
		e.close(ctx)
		if ctx.Err() != nil {
			return 0
		}
		log.Error("cannot register with Lambda", "error", err)
		return 1
	}
	defer api.Close()
	e.timings.note("registered")
	tune(cfg.MemoryMB)
	e.announce()

	if invalid == nil {
		invalid = e.serve(environ)
	}
	if invalid != nil {
		return e.fail(ctx, api, "Extension.ConfigInvalid", invalid)
	}
	if err := e.warmUp(ctx); err != nil {
		return e.fail(ctx, api, "Extension.NoCredentials", err)
	}
	e.timings.note("ready")
	fitCPU(cfg.MemoryMB, runtime.NumCPU())

	deadline := e.untilShutdown(ctx, api)
	e.drain(deadline)
	return 0
}
