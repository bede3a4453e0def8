// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

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
	parts    *assemble.Parts // nil before the first invocation, which tells whose functions these are
}

// handle makes one run. The result is returned in each case, for whoever invoked by hand or reads a failure's record.
func (h *handler) handle(ctx context.Context, event json.RawMessage) (registrator.Result, error) {
	if h.invalid != nil {
		return registrator.Result{}, fmt.Errorf("configuration is invalid: %w", h.invalid)
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
	return r.Run(ctx, scope)
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
