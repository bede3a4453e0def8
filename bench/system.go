// SPDX-License-Identifier: MPL-2.0

package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"
)

// The names of the systems that are always there. None has a comma: --systems takes several, separated by commas.
const (
	Ours        = "consul-lambda"               // as shipped: one spare connection, session resumption
	OursNoSpare = "consul-lambda (no spare)"    // CONSUL_EXTENSION_WARM_CONNECTIONS=0
	OursFull    = "consul-lambda (no resuming)" // and CONSUL_EXTENSION_TLS_RESUMPTION=false
	Baseline    = "baseline"                    // bench/baseline
	Direct      = "direct TLS"                  // no proxy
	Splice      = "plain splice"                // a proxy, no TLS
	Predecessor = "predecessor"                 // what --peer calls HashiCorp's extension, to be compared with
)

// kind says what a row may ask of a system.
type kind int

const (
	extension kind = iota // started through Lambda's contract
	peer                  // a proxy with a configuration file
	floor                 // for comparison only
)

// system is one way to the destination.
type system struct {
	name    string
	kind    kind
	path    string   // of the program; "" without one
	env     []string // of an extension, beside what every one gets
	variant bool     // a setting of another system: asked about new connections only
	config  configure
}

// instance is a running system.
type instance struct {
	*system
	server  *server
	process *process // nil without a proxy
	address string   // what the client dials
	direct  *tls.Config
	api     *extensionsAPI
}

// stop ends the process, then what it was connected to.
func (in *instance) stop() {
	if in.process != nil {
		in.process.stop()
	}
	if in.api != nil {
		in.api.close()
	}
	in.server.close()
}

// cpu returns the proxy's CPU time so far, 0 without a proxy.
func (in *instance) cpu() (time.Duration, error) {
	if in.process == nil {
		return 0, nil
	}
	return in.process.cpu()
}

// connect dials as the function does. Nothing takes longer than exchangeLimit on the connection.
func (in *instance) connect(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", in.address)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(exchangeLimit))
	if in.direct == nil {
		return c, nil
	}
	secure := tls.Client(c, in.direct)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return secure, nil
}

// exchangeLimit ends a sample that hangs.
const exchangeLimit = 60 * time.Second

// launch starts a system and waits until it works. An extension may get more entries of the environment.
func (h *harness) launch(ctx context.Context, sys *system, more ...string) (*instance, error) {
	var in *instance
	var err error
	if sys.kind == extension {
		in, err = h.startExtension(ctx, sys, more)
		if err == nil {
			err = in.awaitNext(ctx)
		}
	} else {
		in, err = h.startOther(ctx, sys)
	}
	if err == nil {
		err = in.awaitAnswer(ctx)
	}
	if err != nil {
		if in != nil {
			in.stop()
		}
		return nil, fmt.Errorf("%s: %w", sys.name, err)
	}
	return in, nil
}

// memoryMB is the size of the function that the extension is told, unless a row says otherwise: one vCPU's worth.
const memoryMB = coreMB

// memorySize is the entry of the environment that says it.
func memorySize(mb int) string { return "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(mb) }

// startExtension starts an extension as Lambda does and returns at once. On an error there is nothing to stop.
// More entries of the environment may be given.
func (h *harness) startExtension(ctx context.Context, sys *system, more []string) (*instance, error) {
	srv, err := newServer(ctx, h.pki.server())
	if err != nil {
		return nil, err
	}
	api, err := startExtensionsAPI(ctx)
	if err != nil {
		srv.close()
		return nil, err
	}
	in := &instance{system: sys, server: srv, api: api}
	port, err := freePort(ctx)
	if err == nil {
		in.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		in.process, err = start(ctx, h.dir, "extension", sys.path, nil, slices.Concat([]string{
			"PATH=" + os.Getenv("PATH"),
			"AWS_LAMBDA_RUNTIME_API=" + api.addr(),
			"AWS_LAMBDA_FUNCTION_NAME=" + function,
			"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
			memorySize(memoryMB),
			"AWS_REGION=us-east-1",
			"AWS_ACCESS_KEY_ID=bench",
			"AWS_SECRET_ACCESS_KEY=bench",
			"AWS_SESSION_TOKEN=bench",
			"AWS_ENDPOINT_URL_SSM=" + h.store.URL(),
			"CONSUL_MESH_GATEWAY_URI=" + srv.addr(),
			"CONSUL_EXTENSION_DATA_PREFIX=" + dataPrefix,
			"CONSUL_SERVICE_UPSTREAMS=" + upstream + ":" + strconv.Itoa(port),
			// The one thing that is not as shipped: rows with thousands of connections must not end at 400.
			"CONSUL_EXTENSION_MAX_CONNECTIONS=20000",
		}, sys.env, more))
	}
	if err != nil {
		in.stop()
		return nil, err
	}
	return in, nil
}

// dataPrefix is where the function's document is in Parameter Store.
const dataPrefix = "/bench"

// awaitNext waits until the extension has asked for its first event.
func (in *instance) awaitNext(ctx context.Context) error {
	_, err := in.await(ctx, in.api.next, "it did not ask for its first event")
	return err
}

// await waits for something that the extension does in its Init.
func (in *instance) await(ctx context.Context, c <-chan time.Time, what string) (time.Time, error) {
	limit := time.NewTimer(10 * time.Second) // Lambda's for Init
	defer limit.Stop()
	select {
	case at := <-c:
		return at, nil
	case said := <-in.api.failed:
		return time.Time{}, in.process.failure(fmt.Errorf("it failed: %s", said))
	case <-in.process.exited:
	case <-limit.C:
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
	return time.Time{}, in.process.failure(fmt.Errorf("%s within 10 s", what))
}

// awaitAnswer connects until the destination answers.
func (in *instance) awaitAnswer(ctx context.Context) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err := in.newConnection(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case in.process != nil && in.process.hasExited():
			return in.process.failure(err)
		case time.Now().Before(deadline):
		case in.process != nil:
			return in.process.failure(fmt.Errorf("no answer through it within 10 s: %w", err))
		default:
			return err
		}
	}
}

// startOther starts a peer or a floor. If in is not nil it has to be stopped, with an error too.
func (h *harness) startOther(ctx context.Context, sys *system) (in *instance, err error) {
	cfg := h.pki.server()
	if sys.name == Splice {
		cfg = nil
	}
	srv, err := newServer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	in = &instance{system: sys, server: srv}
	if sys.path == "" {
		in.address, in.direct = srv.addr(), h.pki.client()
		return in, nil
	}
	port, err := freePort(ctx)
	if err != nil {
		return in, err
	}
	in.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	args, err := sys.config(h, in.address, srv.addr())
	if err != nil {
		return in, err
	}
	in.process, err = start(ctx, h.dir, cmp.Or(sys.name, "peer"), sys.path, args, []string{"PATH=" + os.Getenv("PATH")})
	return in, err
}

// freePort returns a port that was free a moment ago.
func freePort(ctx context.Context) (int, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
