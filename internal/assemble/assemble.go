// SPDX-License-Identifier: MPL-2.0

package assemble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/consul-lambda/consul-lambda/internal/consulapi"
	"github.com/consul-lambda/consul-lambda/internal/documents"
	"github.com/consul-lambda/consul-lambda/internal/lambdaapi"
	"github.com/consul-lambda/consul-lambda/internal/paramstore"
	"github.com/consul-lambda/consul-lambda/internal/registratorenv"
	"github.com/consul-lambda/consul-lambda/internal/version"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// Config says what to make. All fields but Log are needed.
type Config struct {
	Settings registratorenv.Config
	// AWS has region, credentials and HTTP client for the Lambda and tagging APIs. Parameter Store is spoken to with the same
	// region and credentials.
	AWS aws.Config
	// Owner is the account and region whose functions are kept.
	Owner registrator.Owner
	// Program is named in the heartbeat.
	Program string
	// Log may be nil: nothing is logged.
	Log *slog.Logger
}

// Parts are what outlives a run: connections, and what a registrator remembers. New makes them; they are for one goroutine.
type Parts struct {
	cfg       Config
	store     *paramstore.Store
	functions *lambdaapi.Client
	documents *documents.Documents // nil without a prefix

	secrets     secrets
	consul      *consulapi.Client // made with secrets
	registrator *registrator.Registrator
}

// secrets are what a Consul client is made with. They are not for logs.
type secrets struct{ token, caCert string }

// New makes the parts; who calls it calls Close. It calls no API but, for a profile or single sign-on, that of the credentials. The
// error is about these, or about what they and the environment say of Parameter Store.
func New(ctx context.Context, cfg Config) (*Parts, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	getenv, err := environment(ctx, cfg.AWS)
	if err != nil {
		return nil, err
	}
	store, err := paramstore.New(paramstore.Config{Getenv: getenv, AccountID: cfg.Owner.Account})
	if err != nil {
		return nil, err
	}
	s := cfg.Settings
	p := &Parts{cfg: cfg, store: store, functions: lambdaapi.New(lambdaapi.Config{
		AWS:      cfg.AWS,
		Rates:    lambdaapi.Rates{Control: s.Rates.Lambda, GetFunction: s.Rates.GetFunction, Tagging: s.Rates.Tagging},
		PageSize: s.PageSize,
		Log:      cfg.Log,
	})}
	if s.DataPrefix != "" {
		p.documents = documents.New(documents.Config{
			Store: store, Writer: paramstore.WriterConfig{Tier: s.DataTier, KeyID: s.KMSKeyID}, Prefix: s.DataPrefix,
		})
	}
	return p, nil
}

// environment is the process's, with the region of cfg and, unless the process's own are meant, its credentials: package paramstore
// knows no profiles and no single sign-on.
func environment(ctx context.Context, cfg aws.Config) (func(string) string, error) {
	vars := map[string]string{"AWS_REGION": cfg.Region}
	if os.Getenv("AWS_ACCESS_KEY_ID") == "" && os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") == "" && cfg.Credentials != nil {
		c, err := cfg.Credentials.Retrieve(ctx)
		if err != nil {
			return nil, fmt.Errorf("fetching AWS credentials: %w", err)
		}
		vars["AWS_ACCESS_KEY_ID"], vars["AWS_SECRET_ACCESS_KEY"], vars["AWS_SESSION_TOKEN"] = c.AccessKeyID, c.SecretAccessKey, c.SessionToken
	}
	return func(name string) string {
		if v, ok := vars[name]; ok {
			return v
		}
		return os.Getenv(name)
	}, nil
}

// Registrator returns the registrator. It reads the token and the CA certificate from Parameter Store each time, where they are kept
// there: they may be rotated while the process lives. The registrator is the same one, with what it remembers, unless they were. The
// error names the variable of what could not be read; a registrator that was returned before is still good.
func (p *Parts) Registrator(ctx context.Context) (*registrator.Registrator, error) {
	now, err := p.readSecrets(ctx)
	if err != nil {
		return nil, err
	}
	if p.registrator != nil && now == p.secrets {
		return p.registrator, nil
	}
	s := p.cfg.Settings
	consul, err := consulapi.New(consulapi.Config{
		Token: now.token, CACert: []byte(now.caCert), Enterprise: s.Enterprise, LeafRate: s.Rates.Leaf, Log: p.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	cfg := registrator.Config{
		Owner: p.cfg.Owner, Node: s.NodeName, Datacenter: s.Datacenter, Enterprise: s.Enterprise, Partitions: s.Partitions,
		DataPrefix: s.DataPrefix, Policy: s.Policy, MaxDeletes: s.MaxDeletes, Schedule: s.Schedule, Refresh: s.Refresh,
		PutsPerSecond: s.Rates.Put,
		Functions:     p.functions, Consul: consul,
		By: p.cfg.Program + " " + version.String(), Log: p.cfg.Log,
	}
	if p.documents != nil {
		cfg.Documents = p.documents
	}
	r, err := registrator.New(cfg)
	if err != nil {
		consul.Close()
		return nil, err
	}
	p.closeConsul()
	p.secrets, p.consul, p.registrator = now, consul, r
	return r, nil
}

func (p *Parts) readSecrets(ctx context.Context) (now secrets, err error) {
	for _, secret := range []struct {
		variable, path string
		value          *string
	}{
		{"CONSUL_HTTP_TOKEN_PATH", p.cfg.Settings.TokenPath, &now.token},
		{"CONSUL_CACERT_PATH", p.cfg.Settings.CACertPath, &now.caCert},
	} {
		if secret.path == "" {
			continue
		}
		value, fetchErr := p.store.Reader(secret.path).Fetch(ctx)
		if fetchErr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", secret.variable, fetchErr))
			continue
		}
		if *secret.value = strings.TrimSpace(string(value)); *secret.value == "" {
			// Without it the client would take the environment's token, or none, and be somebody else (G5).
			err = errors.Join(err, fmt.Errorf("%s: parameter %s is empty: want what the variable is named for", secret.variable, secret.path))
		}
	}
	return now, err
}

// WhoAmI asks AWS whose credentials the configuration has: with its region, the Owner for New where no ARN was invoked.
func WhoAmI(ctx context.Context, cfg aws.Config) (registrator.Owner, error) {
	return lambdaapi.New(lambdaapi.Config{AWS: cfg}).WhoAmI(ctx)
}

func (p *Parts) closeConsul() {
	if p.consul != nil {
		p.consul.Close()
	}
}

// Close drops idle connections. What Registrator has returned is not to be used any more.
func (p *Parts) Close() {
	p.closeConsul()
	p.store.Close()
}
