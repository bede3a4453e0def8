// SPDX-License-Identifier: MPL-2.0

package doctor

import (
	"cmp"
	"context"
	"net"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/extensionenv"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/tlsstate"
)

// Config says who is examined. Environ is needed; the zero value of the rest is a sensible default.
type Config struct {
	// Environ is the extension's environment, in the form of os.Environ, with the AWS variables that package paramstore reads.
	// AWS_LAMBDA_RUNTIME_API may be missing: nothing is asked there.
	Environ []string
	// Borrowed says that the AWS credentials in Environ are somebody's, not those of the function's role.
	Borrowed bool
	// Beside says that this process runs in a sandbox beside the extension, whose ports are looked at then.
	Beside bool
	// Only are names of services: other upstreams are left out. Empty: none is.
	Only []string
	// Send makes the check of an upstream send an HTTP request, "OPTIONS *".
	Send bool
	// Watch is how long an open connection is watched. 0: 500 ms, in which a sidecar that turns a client away has long done so.
	Watch time.Duration
	// Told gets each result as soon as it is known, in order. Nil: nobody is told before the end.
	Told func(Result)
	// Resolver looks up the gateways' names. Nil: the system's.
	Resolver tlsstate.Resolver
}

// defaultWatch is above the round trips that a handshake's rejection or a denial takes (one, after the last byte of the client), at
// the latency of another continent.
const defaultWatch = 500 * time.Millisecond

// patient is what the checks have found so far. Each writes what the later ones need; a zero value is what could not be had.
type patient struct {
	cfg       Config
	env       *extensionenv.Config
	upstreams []mesh.Upstream // of env, those that are asked for

	text    []byte        // the stored document; it is never shown
	doc     mesh.Document // parsed
	self    mesh.ID       // of the leaf
	trusted bool          // the extension would use the document
	open    []string      // the gateways that can be reached
}

// checks are all of them, in the order in which they are told, each with the name of its first result.
var checks = []struct {
	name string
	make func(context.Context, *patient) []Result
}{
	{"configuration", configuration}, {"store", store}, {"clock", clocks}, {"document", document},
	{"gateway", gateways}, {"route", upstreams}, {"port", ports}, {"trail", trail},
}

// Run makes all checks. Each is bounded by itself, and all by ctx: what ctx leaves no time for is skipped.
func Run(ctx context.Context, cfg Config) Report {
	cfg.Watch = cmp.Or(cfg.Watch, defaultWatch)
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	p := &patient{cfg: cfg}
	report := Report{Results: []Result{}}
	for _, check := range checks {
		results := []Result{finding{name: check.name}.skip("no time was left")}
		if ctx.Err() == nil {
			results = check.make(ctx, p)
		}
		for _, r := range results {
			report.add(r)
			if cfg.Told != nil {
				cfg.Told(r)
			}
		}
	}
	report.OK = report.Failed == 0
	return report
}

// getenv is os.Getenv for the patient's environment.
func (p *patient) getenv(name string) string {
	for _, entry := range p.cfg.Environ {
		if k, v, ok := strings.Cut(entry, "="); ok && k == name {
			return v
		}
	}
	return ""
}
