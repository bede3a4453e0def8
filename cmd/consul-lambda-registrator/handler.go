// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/consul-lambda/consul-lambda/internal/assemble"
	"github.com/consul-lambda/consul-lambda/internal/registratorenv"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// handler is what one sandbox keeps between invocations, which come one at a time.
type handler struct {
	settings registratorenv.Config
	invalid  error // what is wrong with the environment
	log      *slog.Logger
	metrics  io.Writer       // nil: none are wanted
	parts    *assemble.Parts // nil before the first invocation, which tells whose functions these are
}

// reserve is the time before Lambda's deadline in which the answer is on its way: past the deadline nobody would hear what went
// wrong. A short deadline gives a tenth of itself.
const reserve = time.Second

// handle makes one run. The result is returned in each case, for whoever invoked by hand or reads a failure's record.
func (h *handler) handle(ctx context.Context, event json.RawMessage) (registrator.Result, error) {
	if h.invalid != nil {
		return registrator.Result{}, fmt.Errorf("configuration is invalid: %w", h.invalid)
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(reserve, time.Until(deadline)/10)))
		defer cancel()
	}
	owner, err := invokedOwner(ctx)
	if err != nil {
		return registrator.Result{}, err
	}
	scope, err := registrator.ParseEvent(event, owner)
	if err != nil {
		h.log.Error("event refused", "error", err.Error())
		return registrator.Result{}, err
	}
	if h.parts == nil {
		if h.parts, err = h.assemble(ctx, owner); err != nil {
			return registrator.Result{}, err
		}
	}
	r, err := h.parts.Registrator(ctx)
	if err != nil {
		h.log.Error("run not begun", "error", err.Error())
		return registrator.Result{}, err
	}
	began := time.Now()
	result, err := r.Run(ctx, scope)
	dry := scope.DryRun || h.settings.Policy == registrator.DryRun
	h.measure(finished{scope: scope, dry: dry, began: began, took: time.Since(began), result: result, err: err})
	return result, err
}

func (h *handler) assemble(ctx context.Context, owner registrator.Owner) (*assemble.Parts, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(owner.Region))
	if err != nil {
		return nil, fmt.Errorf("loading the AWS configuration: %w", err)
	}
	return assemble.New(ctx, assemble.Config{Settings: h.settings, AWS: cfg, Owner: owner, Program: program, Log: h.log})
}

// invokedOwner returns the account and region of the function that runs: those whose functions it keeps.
func invokedOwner(ctx context.Context) (registrator.Owner, error) {
	lc, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return registrator.Owner{}, errors.New("no Lambda context: this program is to be run by Lambda")
	}
	self, _, err := registrator.ParseQualifiedARN(lc.InvokedFunctionArn)
	if err != nil {
		return registrator.Owner{}, fmt.Errorf("reading the ARN of this function: %w", err)
	}
	return self.Owner(), nil
}
