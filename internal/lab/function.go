// SPDX-License-Identifier: MPL-2.0

package lab

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
)

// Function returns the world's function with the extension as a layer, all services as upstreams, and what the
// extension needs to find gateway and store. The caller may change it: the environment is its own. Without extensions it
// is the same function outside the mesh.
func (w *World) Function() lambdasim.Function {
	w.mu.Lock()
	defer w.mu.Unlock()
	upstreams := make([]string, len(w.upstreams))
	for i, u := range w.upstreams {
		upstreams[i] = u.name + ":" + strconv.Itoa(u.port)
	}
	return lambdasim.Function{
		Name:       w.cfg.FunctionName,
		Bootstrap:  w.cfg.Programs.Function,
		Extensions: []string{w.cfg.Programs.Extension},
		Timeout:    30 * time.Second, // of a test that hangs
		Env: map[string]string{
			"CONSUL_MESH_GATEWAY_URI":      w.Mesh.Gateway.Addr(),
			"CONSUL_EXTENSION_DATA_PREFIX": dataPrefix,
			"CONSUL_SERVICE_UPSTREAMS":     strings.Join(upstreams, ","),
			"CONSUL_EXTENSION_BIND_ADDR":   w.Host,
			"AWS_ENDPOINT_URL_SSM":         w.Store.URL(),
		},
	}
}

// Options returns the surroundings of the world's sandboxes: the credentials that the store knows. What their processes print is
// looked through, see [World.Leaks].
func (w *World) Options() lambdasim.Options { return w.watch(w.account) }

// ColdStart starts a sandbox of a function made by [World.Function]. See [lambdasim.Start]; the caller ends the sandbox.
func (w *World) ColdStart(ctx context.Context, fn lambdasim.Function) (*lambdasim.Sandbox, error) {
	if w.cfg.Programs.Extension == "" || w.cfg.Programs.Function == "" {
		return nil, fmt.Errorf("lab: starting a function: %w: the world was made without programs", ErrNoPrograms)
	}
	return lambdasim.Start(ctx, fn, w.Options())
}

// ExtensionName is what the extension is called in logs and reports.
const ExtensionName = extensionName

// Secrets returns texts that must never be seen outside the store and the processes that use them: of every document
// stored so far by the world's own methods, and of the one that is stored now, each line of its keys and certificates, and the secret parts of the role's credentials.
func (w *World) Secrets() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	secrets := []string{w.account.SecretAccessKey, w.account.SessionToken}
	documents := w.documents
	if p, found := w.Store.Get(w.path); found { // a registrator may have written it
		documents = append(slices.Clone(documents), p.Value)
	}
	for _, doc := range documents {
		for line := range strings.SplitSeq(strings.ReplaceAll(doc, `\n`, "\n"), "\n") {
			// A line of base64 in PEM has 64 characters, the last one fewer; a short one could be anything.
			if len(line) >= 16 && !strings.ContainsAny(line, `-"{} `) {
				secrets = append(secrets, line)
			}
		}
	}
	return secrets
}
