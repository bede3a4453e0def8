// SPDX-License-Identifier: MPL-2.0

// Command xdsdump shows what a Consul server configures an Envoy to do: it says that it is the proxy of that ID, takes clusters,
// listeners and routes over the aggregated delta protocol, acknowledges them as Envoy does, and prints them.
//
//	CONSUL_HTTP_TOKEN=… xdsdump -addr 127.0.0.1:8502 -proxy web-sidecar-proxy -until 'lambda' -timeout 20s
//
// Its output is one JSON object: {"clusters":{NAME:…},"listeners":{NAME:…},"routes":{NAME:…}}, each resource in the JSON form of
// Envoy's API. Extensions inside are decoded too, "@type" says which. Resources that are not ready when the first answer comes are
// waited for: with -until, until the JSON of the whole matches that regular expression. If the time runs out it prints what it has,
// to standard output, says so on standard error, and exits with 1.
//
// It is not an Envoy: it judges nothing that it is given, and carries no traffic. The connection is plain text; it is for a server on
// the same machine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr)) }

func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("xdsdump", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8502", "`host:port` of the server's gRPC API, in plain text")
	proxy := flags.String("proxy", "", "the service `ID` of the proxy, as it is registered with the server's agent")
	until := flags.String("until", "", "a regular `expression`: wait until the output matches; empty: for the first of each kind")
	timeout := flags.Duration("timeout", 20*time.Second, "how long to wait")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	wanted, err := regexp.Compile(*until)
	if err != nil || *proxy == "" || flags.NArg() > 0 {
		_, _ = fmt.Fprintln(stderr, "xdsdump: want -proxy ID, and -until a regular expression")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	seen, err := watch(ctx, target{addr: *addr, proxy: *proxy, token: getenv("CONSUL_HTTP_TOKEN")}, func(s snapshot) bool {
		text, err := json.Marshal(s)
		return err == nil && s.complete() && wanted.Match(text)
	})
	text, encodeErr := json.MarshalIndent(seen, "", "  ")
	if encodeErr == nil {
		_, encodeErr = fmt.Fprintln(stdout, string(text))
	}
	if err = errors.Join(err, encodeErr); err != nil {
		_, _ = fmt.Fprintln(stderr, "xdsdump:", err)
		return 1
	}
	return 0
}
