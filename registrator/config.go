// SPDX-License-Identifier: MPL-2.0

package registrator

import (
	"log/slog"
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

	Functions Functions
	Consul    Consul
	Documents Documents // nil if DataPrefix is ""

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

// legalPart says whether s may be a datacenter's or a partition's name.
func legalPart(s string) bool {
	_, err := mesh.NewService(s, "", "")
	return err == nil
}
