// SPDX-License-Identifier: MPL-2.0

package consulapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/internal/apicall"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// Parts of Consul's messages, where it gives nothing else to tell outcomes apart.
const (
	// staleText ends each message of a compare-and-set in a transaction that lost (agent/consul/state/txn.go).
	staleText = "index is stale"
	// deniedText begins the refusals of operations in a transaction, which are answered as conflicts (acl/errors.go).
	deniedText = "Permission denied"
	// noLeaderText is answered with status 500 while servers elect, and before anything is done (agent/structs/errors.go).
	noLeaderText = "No cluster leader"
	// notReadyText is answered with status 500 by a leader that has not caught up yet (agent/structs/errors.go).
	notReadyText = "Not ready to serve consistent reads"
	// routedText is answered with status 500 to a change of service-defaults that a router or splitter does not allow
	// (agent/consul/discoverychain/compile.go).
	routedText = "does not permit advanced routing"
	// noPeeringText is answered with status 500 where peering is off (agent/rpc/peering/service.go).
	noPeeringText = "peering must be enabled"
)

// operation is what a call does, for its errors.
type operation struct {
	name string // "listing services"
	on   string // "node lambdas"
	rule string // the ACL rule that it needs

	limiter *rate.Limiter // of attempts; nil: no limit
	slow    bool          // its answer may take longer than others: see slowTimeout
}

// wait waits for the operation's rate. A wait that would outlast the context fails at once.
func (op operation) wait(ctx context.Context) error {
	if op.limiter == nil {
		return nil
	}
	if err := op.limiter.Wait(ctx); err != nil {
		return fmt.Errorf("its rate leaves no time for it: %w", cmp.Or(ctx.Err(), context.DeadlineExceeded))
	}
	return nil
}

// failed classifies an error of consul/api. An error of decoding is not quoted: it may hold what it read.
func (op operation) failed(ctx context.Context, tries int, err error) error {
	what := op.name
	if op.on != "" {
		what += " " + op.on
	}
	if tries > 1 {
		what += fmt.Sprintf(" (tried %d times)", tries)
	}
	return fmt.Errorf("%s: %w", what, op.cause(ctx, err))
}

func (op operation) cause(ctx context.Context, err error) error {
	var (
		status  api.StatusError
		network *url.Error
	)
	switch {
	case errors.Is(err, registrator.ErrConflict), errors.Is(err, errUnusable):
		return err
	case errors.As(err, &status):
		return op.answered(status)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	case errors.As(err, &network):
		return network.Err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the answer was cut short: %w", io.ErrUnexpectedEOF)
	}
	return errors.New("the answer cannot be read")
}

// errUnusable is wrapped by what this package itself finds wrong with an answer, or with an entry it is given.
var errUnusable = errors.New("not usable")

func unusable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUnusable, fmt.Sprintf(format, args...))
}

// answered is an error that Consul gave.
func (op operation) answered(status api.StatusError) error {
	message := status.Body
	if status.Code == http.StatusConflict {
		message = txnMessage(status.Body)
	}
	message = apicall.OneLine(message)
	switch {
	case status.Code == http.StatusForbidden, status.Code == http.StatusConflict && strings.Contains(message, deniedText):
		return fmt.Errorf("%w: the token needs %s (%s)", registrator.ErrDenied, op.rule, message)
	case status.Code == http.StatusConflict && strings.Contains(message, staleText):
		return fmt.Errorf("%w (%s)", registrator.ErrConflict, message)
	}
	if strings.Contains(message, routedText) {
		return fmt.Errorf("%w (%s)", registrator.ErrInUse, message)
	}
	return fmt.Errorf("HTTP status %d: %s", status.Code, message)
}

// txnMessage takes the messages out of the answer to a transaction that was rolled back.
func txnMessage(body string) string {
	var rolledBack api.TxnResponse
	if json.Unmarshal([]byte(body), &rolledBack) != nil || len(rolledBack.Errors) == 0 {
		return body
	}
	var whats []string
	for _, e := range rolledBack.Errors {
		whats = append(whats, e.What)
	}
	return strings.Join(whats, "; ")
}

// isBusy reports answers after which the same call may succeed, and which mean that nothing was done: a rate limit of the servers
// or of the CA, and an election.
func isBusy(err error) bool {
	var status api.StatusError
	if !errors.As(err, &status) {
		return false
	}
	switch status.Code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	case http.StatusInternalServerError:
		return strings.Contains(status.Body, noLeaderText) || strings.Contains(status.Body, notReadyText)
	}
	return false
}
