// SPDX-License-Identifier: MPL-2.0

// Package registratorenv reads the registrator's configuration from its environment: for the Lambda function, and for whoever plans
// what it would do.
//
//	settings, err := registratorenv.Parse(os.Environ()) // err has all that is wrong, a line each
//
// It decides nothing: what a value means is for the package that is given it. The variables of consul/api (CONSUL_HTTP_ADDR and its
// kin) are read by that library itself, those of AWS by its SDK.
package registratorenv

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/environ"
	"github.com/consul-lambda/consul-lambda/internal/logs"
	"github.com/consul-lambda/consul-lambda/internal/paramstore"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// Config is what the environment says, with every default in place. What each variable means for a user is in
// docs/configuration.md; here is what is accepted.
type Config struct {
	NodeName   string   // NODE_NAME; required
	Datacenter string   // DATACENTER; "": see registrator.Config
	Enterprise bool     // there are namespaces and partitions
	Partitions []string // nil: the default one

	// DataPrefix is the path below which documents are stored. "": none are.
	DataPrefix string
	DataTier   paramstore.Tier
	KMSKeyID   string // "": alias/aws/ssm

	// CACertPath and TokenPath name parameters that hold Consul's CA certificate and the ACL token. "": the variables of consul/api.
	CACertPath, TokenPath string

	Policy     registrator.Policy // CONSUL_LAMBDA_POLICY
	MaxDeletes int                // 0: the larger of 5 and 20 %
	Schedule   time.Duration      // between two full runs
	Refresh    time.Duration      // CONSUL_REFRESH_FREQUENCY of the functions
	PageSize   int                // of ListFunctions, 1 to 50

	// Rates are the limits of each API.
	Rates Rates

	EMF      bool // CONSUL_LAMBDA_METRICS is emf, not off
	LogLevel slog.Level

	// Warnings are sentences for the log, each naming its variable.
	Warnings []string
}

// Rates bound the calls of each API (G9), in calls per second. 0: the default of the API's adapter; negative: no limit.
type Rates struct {
	Lambda, GetFunction, Tagging, Put, Leaf float64
}

// Parse reads a configuration from an environment in the form of os.Environ. It touches nothing else. The error joins all that is
// wrong, one line each, which names the variable, the value and what is accepted; the log level and the warnings are of use all
// the same.
func Parse(variables []string) (Config, error) { return parse(environ.New(variables)) }

func parse(r *environ.Reader) (Config, error) {
	c := Config{
		NodeName:   r.Required("NODE_NAME", "the name of the catalog's node that carries the functions, such as lambdas"),
		Datacenter: r.Value("DATACENTER"),
		Enterprise: environ.Bool("ENTERPRISE", false).From(r),
		Partitions: environ.List[string]{
			Name: "PARTITIONS", Accepted: "names of partitions, separated by commas",
			Parse: func(s string) (string, error) { return s, nil },
		}.From(r),
		DataPrefix: strings.TrimSuffix(r.Value("CONSUL_EXTENSION_DATA_PREFIX"), "/"),
		DataTier: environ.Setting[paramstore.Tier]{
			Name: "CONSUL_EXTENSION_DATA_TIER", Default: paramstore.IntelligentTiering,
			Accepted: "Standard, Advanced or Intelligent-Tiering", Parse: tier,
		}.From(r),
		KMSKeyID:   r.Value("CONSUL_LAMBDA_KMS_KEY_ID"),
		CACertPath: r.Value("CONSUL_CACERT_PATH"),
		TokenPath:  r.Value("CONSUL_HTTP_TOKEN_PATH"),
		Policy:     policy.From(r),
		MaxDeletes: environ.Int("CONSUL_LAMBDA_MAX_DELETES", 0, environ.Range{High: 1_000_000}).From(r),
		Schedule:   environ.Duration("CONSUL_LAMBDA_SCHEDULE", 10*time.Minute, environ.Span{Min: time.Minute, Max: 24 * time.Hour}).From(r),
		Refresh:    environ.Duration("CONSUL_REFRESH_FREQUENCY", 5*time.Minute, environ.Span{Min: time.Second}).From(r),
		PageSize:   environ.Int("PAGE_SIZE", 50, environ.Range{Low: 1, High: 50}).From(r),
		Rates: Rates{
			Lambda:      rate("CONSUL_LAMBDA_RATE_LAMBDA").From(r),
			GetFunction: rate("CONSUL_LAMBDA_RATE_GET_FUNCTION").From(r),
			Tagging:     rate("CONSUL_LAMBDA_RATE_TAGGING").From(r),
			Put:         rate("CONSUL_LAMBDA_RATE_SSM_PUT").From(r),
			Leaf:        rate("CONSUL_LAMBDA_RATE_CONSUL").From(r),
		},
		EMF:      environ.Word("CONSUL_LAMBDA_METRICS", false, "off or emf", map[string]bool{"off": false, "emf": true}).From(r),
		LogLevel: logs.LevelFrom(r),
	}
	r.WarnUnread("CONSUL_LAMBDA_")
	c.Warnings = r.Warnings()
	return c, r.Err()
}

// policy takes the words that a policy prints itself as.
var policy = environ.Word("CONSUL_LAMBDA_POLICY", registrator.Sync,
	fmt.Sprintf("%v, %v or %v", registrator.Sync, registrator.UpsertOnly, registrator.DryRun),
	map[string]registrator.Policy{
		registrator.Sync.String():       registrator.Sync,
		registrator.UpsertOnly.String(): registrator.UpsertOnly,
		registrator.DryRun.String():     registrator.DryRun,
	})

// tier reads a tier of Parameter Store; which they are is said beside it.
func tier(s string) (paramstore.Tier, error) {
	t, err := paramstore.ParseTier(s)
	if err != nil {
		return t, errors.New("is not one of them")
	}
	return t, nil
}

// rate is a variable that is a number of calls per second, 0 for no limit.
func rate(name string) environ.Setting[float64] {
	return environ.Setting[float64]{
		Name: name, Accepted: "calls per second, such as 5 or 0.5, or 0 for no limit",
		Parse: func(s string) (float64, error) {
			n, err := strconv.ParseFloat(s, 64)
			switch {
			case err != nil || math.IsNaN(n) || math.IsInf(n, 0):
				return 0, errors.New("is not a number")
			case n < 0 || n > 1e6:
				return 0, errors.New("is out of range")
			case n == 0:
				return -1, nil
			}
			return n, nil
		},
	}
}
