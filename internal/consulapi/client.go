// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/internal/apicall"
	"github.com/consul-lambda/consul-lambda/mesh"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// Config says which Consul this is. Its zero value is the one that the environment names.
type Config struct {
	// API has what the variables of consul/api would say. Nil: they are read. It is not changed, but its Transport, if it has one,
	// becomes the Client's own.
	API *api.Config
	// Token is the ACL token. Empty: the environment's.
	Token string
	// CACert has the certificates, in PEM, that Consul's own must chain to, in place of the environment's. Empty: those.
	CACert []byte
	// Enterprise says that there are namespaces and partitions. Without it none is sent: a Consul without them refuses both.
	Enterprise bool
	// LeafRate is how many leafs are asked for a second. Zero: 16.6, a third of Consul's default csr_max_per_second, which is 50
	// for all of a cluster. Negative: no limit of ours.
	LeafRate float64
	// Timeout bounds each attempt at a call, in addition to the context. Zero: 10 s. Negative: the context alone.
	Timeout time.Duration
	// Log is told what a listing had to do without. Nil: discarded.
	Log *slog.Logger
}

const (
	defaultLeafRate = 50.0 / 3
	// defaultTimeout is above the 7 s for which a server holds on to a request while there is no leader
	// (rpc_hold_timeout, its documented default).
	defaultTimeout = 10 * time.Second

	// slowTimeout is for a listing of peerings: Consul refuses one that the token may not see after 10 to 12 s (1.22.5).
	slowTimeout = 20 * time.Second

	maxTries     = 6
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// Client is a Consul cluster, through one agent or server. It is safe for concurrent use.
type Client struct {
	api        *api.Client
	transport  *http.Transport
	enterprise bool
	leafs      *rate.Limiter // nil: no limit
	timeout    time.Duration
	log        *slog.Logger

	mu    sync.Mutex
	home  *home                 // nil: not known yet
	nodes map[nodeKey]*api.Node // as last listed, for what a change of the node must keep
	peers map[string]peerNames  // by the peering's ID; they never change for one
}

var _ registrator.Consul = (*Client)(nil)

// New returns a Client. It touches no network; of files it reads those that the environment names.
func New(cfg Config) (*Client, error) {
	conf := api.DefaultConfig()
	if cfg.API != nil {
		given := *cfg.API
		conf = &given
	}
	if conf.Transport == nil {
		conf.Transport = api.DefaultConfig().Transport
	}
	transport := conf.Transport // not a clone: that would have a TLSClientConfig, with which consul/api ignores the environment's
	if cfg.Token != "" {
		conf.Token, conf.TokenFile = cfg.Token, ""
	}
	if len(cfg.CACert) > 0 {
		conf.TLSConfig.CAFile, conf.TLSConfig.CAPath, conf.TLSConfig.CAPem = "", "", cfg.CACert
		// Built here because consul/api would fill in the file of CONSUL_CACERT, and prefer it.
		tlsConfig, err := api.SetupTLSConfig(&conf.TLSConfig)
		if err != nil {
			return nil, fmt.Errorf("consulapi: setting up TLS: %w", err)
		}
		transport.TLSClientConfig = tlsConfig
	}
	if conf.HttpClient == nil {
		httpClient, err := api.NewHttpClient(transport, conf.TLSConfig)
		if err != nil {
			return nil, fmt.Errorf("consulapi: setting up TLS: %w", err)
		}
		conf.HttpClient = httpClient
	}
	// net/http would carry X-Consul-Token to wherever a redirect leads. Consul's API has none.
	conf.HttpClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, fmt.Errorf("consulapi: CONSUL_HTTP_ADDR: %q: %w; accepted: host:port, http://host:port, https://host:port or unix://path",
			conf.Address, err)
	}
	return &Client{
		api:        client,
		transport:  transport,
		enterprise: cfg.Enterprise,
		leafs:      apicall.PerSecond(cmp.Or(cfg.LeafRate, defaultLeafRate)),
		timeout:    cmp.Or(cfg.Timeout, defaultTimeout),
		log:        cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		nodes:      make(map[nodeKey]*api.Node),
		peers:      make(map[string]peerNames),
	}, nil
}

// Close drops the idle connections. The Client can still be used.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// scope is where a call looks. Partition and namespace are dropped unless this is Enterprise.
type scope struct{ datacenter, partition, namespace string }

// everywhere is all namespaces of a realm.
func everywhere(r registrator.Realm) scope { return scope{r.Datacenter, r.Partition, "*"} }

// of is where a service is.
func of(datacenter string, s mesh.Service) scope {
	return scope{datacenter, s.Partition(), s.Namespace()}
}

// read asks for a consistent answer: a server that has just become the leader, as one does that was restarted, otherwise answers from
// before the last writes, and a run on such a state fails in every compare-and-set. It costs the leader a round trip to a quorum.
func (c *Client) read(ctx context.Context, s scope) *api.QueryOptions {
	q := &api.QueryOptions{Datacenter: s.datacenter, RequireConsistent: true}
	if c.enterprise {
		q.Partition, q.Namespace = s.partition, s.namespace
	}
	return q.WithContext(ctx)
}

func (c *Client) write(ctx context.Context, s scope) *api.WriteOptions {
	w := &api.WriteOptions{Datacenter: s.datacenter}
	if c.enterprise {
		w.Partition, w.Namespace = s.partition, s.namespace
	}
	return w.WithContext(ctx)
}

// do makes a call, again while Consul says that it is too busy. The error is classified.
func (c *Client) do(ctx context.Context, op operation, attempt func(context.Context) error) error {
	pause := apicall.Backoff{Next: firstBackoff, Most: maxBackoff}
	for try := 1; ; try++ {
		if err := op.wait(ctx); err != nil {
			return fmt.Errorf("%s %s: %w", op.name, op.on, err)
		}
		err := c.once(ctx, op, attempt)
		if err == nil {
			return nil
		}
		if try == maxTries || !isBusy(err) || !pause.Wait(ctx) {
			return op.failed(ctx, try, err)
		}
	}
}

func (c *Client) once(ctx context.Context, op operation, attempt func(context.Context) error) error {
	if timeout := c.timeout; timeout > 0 {
		if op.slow {
			timeout = max(timeout, slowTimeout)
		}
		bounded, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = bounded
	}
	return attempt(ctx)
}
