// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/mesh"
)

// Config says whose functions are kept where, and through what. The fields without a default are required.
type Config struct {
	// Owner is the account and region whose functions are kept, from the ARN that was invoked or from STS.
	Owner Owner
	// Node is the catalog's node that carries all services. Registrators of several accounts may share one.
	Node string
	// Datacenter is the only one that is kept; a function without a datacenter tag belongs to it. "": each that Consul knows, and
	// such a function belongs to the server's own.
	Datacenter string
	// Enterprise: functions may ask for a namespace and a partition.
	Enterprise bool
	// Partitions are those that are kept, of Consul Enterprise. nil: the default one.
	Partitions []string
	// DataPrefix is where documents are stored, such as "/consul/lambda". "": none are, and functions cannot call the mesh.
	DataPrefix string

	// Policy says which changes are made. The zero value is Sync.
	Policy Policy
	// MaxDeletes bounds the deletes of one run (G7). 0: the larger of 5 and a fifth of what is registered.
	MaxDeletes int

	// Schedule is the time between two full runs, Refresh that in which an extension reads its document anew. 0: 10 and 5 minutes.
	Schedule, Refresh time.Duration
	// Concurrency is how many changes, or reads, are under way at once. 0: 16.
	Concurrency int
	// PutsPerSecond bounds writes to Documents (G9). 0: 1, a third of the 3 that AWS grants an account in a region without higher
	// throughput; negative: no bound.
	PutsPerSecond float64

	// Functions, Consul and Documents are the APIs; they stay the caller's. Documents may be nil if DataPrefix is "".
	Functions Functions
	Consul    Consul
	Documents Documents

	// By says in the heartbeat who wrote it: a name and a version. May be "".
	By string
	// Log gets a line for each change and one for each run. nil: nothing is logged.
	Log *slog.Logger
	// Now is the wall clock. nil: time.Now.
	Now func() time.Time
}

const (
	defaultSchedule      = 10 * time.Minute // the predecessor's Terraform default
	defaultRefresh       = 5 * time.Minute  // the default of CONSUL_REFRESH_FREQUENCY
	defaultConcurrency   = 16               // 20 ms calls: 800 a second, more than any API below allows
	defaultPutsPerSecond = 1
)

// check returns all that is wrong, each with the field, its value and what is accepted.
func (cfg Config) check() error {
	var errs []error
	refuse := func(field string, value any, want string) {
		errs = append(errs, fmt.Errorf("%w: %s is %q: want %s", ErrConfig, field, fmt.Sprint(value), want))
	}
	if err := cfg.Owner.check(); err != nil {
		errs = append(errs, fmt.Errorf("%w: Owner: %w", ErrConfig, err))
	}
	if cfg.Node == "" || strings.TrimSpace(cfg.Node) != cfg.Node {
		refuse("Node", cfg.Node, "the name of a node in the catalog")
	}
	if cfg.Datacenter != "" && !legalPart(cfg.Datacenter) {
		refuse("Datacenter", cfg.Datacenter, "the name of a datacenter, or nothing")
	}
	for _, partition := range cfg.Partitions {
		if name := unlessDefault(partition); name != "" && !legalPart(name) {
			refuse("Partitions", partition, "names of partitions")
		} else if name != "" && !cfg.Enterprise {
			refuse("Partitions", partition, "none but the default one unless Enterprise is true")
		}
	}
	if cfg.DataPrefix != "" {
		if sample, err := mesh.NewService("f", "", ""); err == nil {
			if _, err := sample.ParameterPath(cfg.DataPrefix); err != nil {
				errs = append(errs, fmt.Errorf("%w: DataPrefix: %w", ErrConfig, err))
			}
		}
		if cfg.Documents == nil {
			refuse("Documents", nil, "a store, as DataPrefix is set")
		}
	}
	if cfg.Policy < Sync || cfg.Policy > DryRun {
		refuse("Policy", cfg.Policy, strings.Join(policyNames[:], ", "))
	}
	if cfg.MaxDeletes < 0 {
		refuse("MaxDeletes", cfg.MaxDeletes, "a positive number, or 0 for the larger of 5 and 20 %")
	}
	if cfg.Schedule < 0 {
		refuse("Schedule", cfg.Schedule, "the time between two runs")
	}
	if cfg.Refresh < 0 {
		refuse("Refresh", cfg.Refresh, "the refresh frequency of the extensions")
	}
	if cfg.Concurrency < 0 {
		refuse("Concurrency", cfg.Concurrency, "a positive number, or 0 for 16")
	}
	if cfg.Functions == nil {
		refuse("Functions", nil, "AWS Lambda")
	}
	if cfg.Consul == nil {
		refuse("Consul", nil, "a Consul cluster")
	}
	return errors.Join(errs...)
}

// resolved returns the configuration with its defaults, and each partition once.
func (cfg Config) resolved() Config {
	cfg.Schedule, cfg.Refresh = cmp.Or(cfg.Schedule, defaultSchedule), cmp.Or(cfg.Refresh, defaultRefresh)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, defaultConcurrency)
	cfg.PutsPerSecond = cmp.Or(cfg.PutsPerSecond, defaultPutsPerSecond)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var partitions []string
	for _, partition := range cfg.Partitions {
		if name := unlessDefault(partition); !slices.Contains(partitions, name) {
			partitions = append(partitions, name)
		}
	}
	if cfg.Partitions = partitions; len(partitions) == 0 {
		cfg.Partitions = []string{""}
	}
	return cfg
}

// legalPart says whether s may be a datacenter's or a partition's name.
func legalPart(s string) bool {
	_, err := mesh.NewService(s, "", "")
	return err == nil
}
