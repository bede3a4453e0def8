// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
)

// rig is a world of its own with a site in it, and the sandbox of a function. Whoever makes it closes it.
type rig struct {
	*lab.World
	site *site
	box  *lambdasim.Sandbox // set by boot
	next *atomic.Uint64     // identities of calls
}

func newRig(ctx context.Context, programs lab.Programs) (*rig, error) {
	w, err := lab.New(ctx, lab.Config{Programs: programs})
	if err != nil {
		return nil, err
	}
	s, err := newSite(w)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &rig{World: w, site: s, next: new(atomic.Uint64)}, nil
}

// boot cold-starts the function. changes are made to its environment.
func (r *rig) boot(ctx context.Context, changes map[string]string) (err error) {
	fn := r.Function()
	fn.Env["CONSUL_SERVICE_UPSTREAMS"] = upstreams
	fn.Env["CONSUL_EXTENSION_WARM_CONNECTIONS"] = "1," + dialled + "=0"
	fn.Env["CONSUL_EXTENSION_DIAL_TIMEOUT"] = dialTimeout.String()
	fn.Env["CONSUL_REFRESH_FREQUENCY"] = "1s"
	for name, value := range changes {
		fn.Env[name] = value
	}
	r.box, err = r.ColdStart(ctx, fn)
	return err
}

// dialTimeout is the extension's.
const dialTimeout = time.Second

func (r *rig) close() error {
	if r.box != nil {
		r.box.Kill()
	}
	return r.Close()
}

// start makes a call, with an identity of its own.
func (r *rig) start(ctx context.Context, c call) *running {
	c.id = r.next.Add(1)
	return start(ctx, r.site, r.Addr(c.service), c)
}

// use returns what the extension holds.
func (r *rig) use() (usage, error) { return usageOf(r.box.ExtensionPID(lab.ExtensionName)) }

// badLogs returns what must never be logged: panics (R12), secrets (R18), and what is no JSON (R18).
func (r *rig) badLogs() (bad []string) {
	secrets := r.Secrets()
	for _, l := range r.box.Logs() {
		ours := l.Source == lab.ExtensionName
		if strings.Contains(l.Text, "panic") || ours && !json.Valid([]byte(l.Text)) {
			bad = append(bad, fmt.Sprintf("logged by %s: %s", l.Source, l.Text))
		}
		for _, s := range secrets {
			if strings.Contains(l.Text, s) {
				bad = append(bad, "a secret was logged by "+l.Source)
			}
		}
	}
	return bad
}
