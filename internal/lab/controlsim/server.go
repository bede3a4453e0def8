// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// Config says which account the server plays and how. Its zero value works.
type Config struct {
	// Addr is the address to listen on. Empty: 127.0.0.1 and a free port.
	Addr string
	// Partition is "aws", "aws-cn" or "aws-us-gov". Empty: the region's.
	Partition string
	// Region is part of ARNs, and what a signature must be scoped to once RequireAuth is set. Empty: us-east-1.
	Region string
	// Account is part of ARNs. Empty: 123456789012.
	Account string
	// Caller is the ARN that GetCallerIdentity answers, and that denials name. Empty: a role "fn-role" of the account.
	Caller string

	// Latency delays every answer. Zero: none. SetLatency changes it.
	Latency time.Duration
	// Limits are the rates past which calls are throttled. The zero value has none. SetLimits changes them.
	Limits Limits
	// TaggingScan is how many functions GetResources looks at for one page; those that match are fewer, down to none.
	// Zero: as many as it takes to fill the page.
	TaggingScan int

	// OnEvent is given each event, one at a time, on a goroutine of the server. Nil: no events are made.
	OnEvent func(event []byte)
	// EventJitter delays each event by a random time below it, so that they come out of order, as AWS's do. Zero: at
	// once, in the order of the changes.
	EventJitter time.Duration
	// EventDuplicates is the share of events, from 0 to 1, that come twice, each time with a delay of its own.
	EventDuplicates float64
	// EventSeed makes the choices of jitter and duplicates. Zero is a seed like any other.
	EventSeed uint64
	// SetterEvents makes the server's own methods that change functions produce events, as API calls do.
	SetterEvents bool
}

// Limits are calls a second, each family with a burst of one second's worth. Zero or less: no limit.
type Limits struct {
	GetFunction float64 // GetFunction
	Lambda      float64 // every other call of Lambda, together
	Tagging     float64 // the tagging API
}

// AWSLimits are those that AWS states, and does not raise.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html and
// https://docs.aws.amazon.com/tag-editor/latest/userguide/reference.md
func AWSLimits() Limits { return Limits{GetFunction: 100, Lambda: 15, Tagging: 15} }

// A Server is the control plane of one account in one region. All its methods may be called at any time from any
// goroutine.
type Server struct {
	*awswire.Server // URL, calls, faults, latency and RequireAuth; its Close is not the whole

	account      awswire.Account
	scan         int
	setterEvents bool
	courier      *courier // nil: nobody listens

	mu        sync.Mutex
	functions map[string]*function
	sorted    []string  // their names; nil: to be sorted again
	lag       *snapshot // what the tagging API shows; nil: what is
	caller    string
	denied    map[string]bool // by IAM action
	limiters  map[string]*rate.Limiter
}

// The families of calls that share a limit.
const (
	familyGetFunction = "GetFunction"
	familyLambda      = "lambda"
	familyTagging     = "tagging"
	familySTS         = "sts" // never limited
)

// Start listens and serves until Close.
func Start(cfg Config) (*Server, error) {
	account := awswire.Account{Partition: cfg.Partition, Region: cfg.Region, ID: cfg.Account, Caller: cfg.Caller}.Resolve()
	s := &Server{
		account:      account,
		scan:         cfg.TaggingScan,
		setterEvents: cfg.SetterEvents,
		functions:    make(map[string]*function),
		caller:       account.Caller,
		denied:       make(map[string]bool),
	}
	s.SetLimits(cfg.Limits)
	if cfg.OnEvent != nil {
		s.courier = startCourier(cfg)
	}
	wire, err := awswire.Start(awswire.Config{Addr: cfg.Addr, Account: account, Read: s.read})
	if err != nil {
		s.courier.close()
		return nil, fmt.Errorf("starting control plane: %w", err)
	}
	s.Server = wire
	s.SetLatency("", cfg.Latency)
	return s, nil
}

// Close ends every connection and waits for the server's goroutines.
func (s *Server) Close() {
	s.Server.Close()
	s.courier.close()
}

// SetLimits replaces the rates. The buckets start full.
func (s *Server) SetLimits(l Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiters = make(map[string]*rate.Limiter)
	for family, perSecond := range map[string]float64{
		familyGetFunction: l.GetFunction, familyLambda: l.Lambda, familyTagging: l.Tagging,
	} {
		s.limiters[family] = awswire.Limiter(perSecond, int(perSecond))
	}
}

// Deny takes permissions away by IAM's names of the actions, "tag:GetResources", until Allow. The calls fail, but for
// GetFunction without "lambda:ListTags", which succeeds with a TagsError. Without "kms:Decrypt" a function's environment is an error
// in the answer that would have it.
func (s *Server) Deny(actions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range actions {
		s.denied[a] = true
	}
}

// Allow gives permissions back; all of them if none is named.
func (s *Server) Allow(actions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(actions) == 0 {
		clear(s.denied)
	}
	for _, a := range actions {
		delete(s.denied, a)
	}
}

// SetCaller changes the ARN that GetCallerIdentity answers; the account is the one in the ARN. Empty: that of the start.
func (s *Server) SetCaller(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.caller = cmp.Or(arn, s.account.Caller)
}

// ARN is that of a function of the account. A name may carry a qualifier: "orders:live".
func (s *Server) ARN(name string) string { return s.account.ARN("lambda", "function:"+name) }

// role is the ARN of a role of the account: IAM has no regions.
func (s *Server) role(name string) string {
	return strings.Join([]string{"arn", s.account.Partition, "iam", "", s.account.ID, "role/" + name}, ":")
}
