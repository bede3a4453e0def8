// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// defaultAttemptTimeout leaves room for the worst that still succeeds: a lost
// SYN (1 s until it is sent again) and a TLS handshake in a 128 MB function,
// which has 7 % of a CPU (0.75 s measured), before Parameter Store's own tens
// of milliseconds. It is short enough for a second attempt within the 8 s that
// a strict start may take.
const defaultAttemptTimeout = 5 * time.Second

// Config is where a Store gets its settings. Its zero value works.
type Config struct {
	// Getenv looks up environment variables. Nil: os.Getenv. Proxy variables
	// are always read from the process's own environment, once, by net/http.
	// It is kept, and called again for credentials whenever they are used.
	Getenv func(string) string
	// AccountID is used in the ARNs that errors name. Empty: "*".
	AccountID string
	// AttemptTimeout bounds each call, in addition to its context. Zero: 5 s.
	// Negative: the context alone.
	AttemptTimeout time.Duration
}

// A Store is Parameter Store of one account in one region. It is safe for
// concurrent use.
type Store struct {
	client  *ssm.Client
	http    *http.Client
	host    string // of the endpoint, for errors
	region  string
	account string
	timeout time.Duration
}

// New returns a Store for the environment's region, endpoint and credentials.
// It opens no connection; of files it reads AWS_CA_BUNDLE only (parsing a bundle
// of 140 certificates takes 3 ms, all the rest 0.1 ms in a new process). The
// error names each variable that is missing or wrong.
func New(cfg Config) (*Store, error) {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	tlsConfig, err := newTLSConfig(cfg.Getenv)
	s, err2 := newStore(cfg, newTransport(tlsConfig), tlsConfig)
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("paramstore: %w", err)
	}
	return s, nil
}

// newStore is New with the transport given.
func newStore(cfg Config, transport http.RoundTripper, tlsConfig *tls.Config) (*Store, error) {
	creds, credsErr := newCredentials(cfg.Getenv, tlsConfig)
	httpClient := &http.Client{Transport: transport, CheckRedirect: noRedirect}
	opts := ssm.Options{
		Credentials: creds,
		HTTPClient:  wholeBody{httpClient},
		Retryer:     aws.NopRetryer{},
	}
	host, err := endpoint(cfg.Getenv, &opts)
	if err := errors.Join(err, credsErr); err != nil {
		return nil, err
	}
	return &Store{
		client:  ssm.New(opts),
		http:    httpClient,
		host:    host,
		region:  opts.Region,
		account: cmp.Or(cfg.AccountID, "*"),
		timeout: cmp.Or(cfg.AttemptTimeout, defaultAttemptTimeout),
	}, nil
}

// Close drops the idle connections. The Store can still be used.
func (s *Store) Close() { s.http.CloseIdleConnections() }

// call is one attempt at one operation on one parameter.
type call struct {
	store     *Store
	op, name  string
	parent    context.Context // the caller's, to tell its end from our timeout
	secret    string          // must not show in an error; "" if there is none
	asked     atomic.Bool     // for a connection
	connected atomic.Bool     // a connection to the endpoint was had
}

// begin returns the bounded context to make the call with. The caller must
// call the cancel function.
func (s *Store) begin(ctx context.Context, op, name string) (*call, context.Context, context.CancelFunc) {
	c := &call{store: s, op: op, name: name, parent: ctx}
	// Credentials may be fetched over HTTP under the same context, before the
	// call's own request: GetConn starts afresh.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { c.asked.Store(true); c.connected.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { c.connected.Store(true) },
	})
	if s.timeout < 0 {
		ctx, cancel := context.WithCancel(ctx)
		return c, ctx, cancel
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	return c, ctx, cancel
}
