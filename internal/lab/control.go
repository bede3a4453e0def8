// SPDX-License-Identifier: MPL-2.0

package lab

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/consulsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/controlsim"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
)

// ControlConfig describes a [Control]. Its zero value works.
type ControlConfig struct {
	// Consul is a server that the caller closes, so that several accounts may share one. Nil: one of the Control's own, open to
	// everybody, with the mesh's certificate authority.
	Consul *consulsim.Server

	// AWS is the account's control plane. The account, and who hears of its events, are the lab's choice. Functions that a test
	// sets make events as API calls do, unless Quiet.
	AWS   controlsim.Config
	Quiet bool

	// Env are variables of the registrator, in place of the lab's. An empty value takes one away.
	Env map[string]string

	// Timeout bounds one invocation of the registrator. 0: 60 s.
	Timeout time.Duration
}

const (
	// EnabledTag is the tag of a function that takes part in the mesh: with "true".
	EnabledTag = "serverless.consul.hashicorp.com/v1alpha1/lambda/enabled"

	// RegistratorNode is the node of Consul's catalog that carries functions.
	RegistratorNode = "lambdas"
)

// Control is a world's control plane: an AWS account, a Consul, and the registrator between them and the world's store. It is safe
// for concurrent use.
type Control struct {
	// AWS has the account's functions and their tags, and delivers events about their changes to the registrator.
	AWS *controlsim.Server

	// Consul has what the registrator registers.
	Consul *consulsim.Server

	ownConsul bool
	place     controlsim.Place
	function  lambdasim.Function // the registrator
	role      lambdasim.Options  // its credentials
	life      context.Context    // of deliveries
	end       context.CancelFunc

	starting sync.Mutex // held while box is made or ended

	mu          sync.Mutex
	box         *lambdasim.Sandbox // nil before the first invocation
	invocations []Invocation
}

// StartControl starts a control plane with the world's registrator, which a first event will start. A world has one at a time. The
// caller closes it before the world. The error wraps ErrNoPrograms if the world has no registrator.
func (w *World) StartControl(cfg ControlConfig) (*Control, error) {
	if w.cfg.Programs.Registrator == "" {
		return nil, fmt.Errorf("lab: starting a control plane: %w: the world was made without a registrator", ErrNoPrograms)
	}
	c := &Control{Consul: cfg.Consul, place: controlsim.Place{Account: w.cfg.Account}, role: w.watch(newRole(w.cfg.Account))}
	c.life, c.end = context.WithCancel(context.Background())
	if err := c.start(w, cfg); err != nil {
		c.Close()
		return nil, fmt.Errorf("lab: starting a control plane: %w", err)
	}
	c.function = lambdasim.Function{
		Name:      registratorName,
		Bootstrap: w.cfg.Programs.Registrator,
		Timeout:   cmp.Or(cfg.Timeout, time.Minute),
		Env: map[string]string{
			"NODE_NAME":                                    RegistratorNode,
			"CONSUL_HTTP_ADDR":                             c.Consul.Addr(),
			"CONSUL_EXTENSION_DATA_PREFIX":                 dataPrefix,
			"AWS_ENDPOINT_URL_SSM":                         w.Store.URL(),
			"AWS_ENDPOINT_URL_LAMBDA":                      c.AWS.URL(),
			"AWS_ENDPOINT_URL_STS":                         c.AWS.URL(),
			"AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API": c.AWS.URL(),
		},
	}
	maps.Copy(c.function.Env, cfg.Env)
	maps.DeleteFunc(c.function.Env, func(_, value string) bool { return value == "" })
	w.Store.RequireAuth(w.reader(), writer(c.role))
	return c, nil
}

func (c *Control) start(w *World, cfg ControlConfig) (err error) {
	if c.Consul == nil {
		if c.Consul, err = consulsim.Start(consulsim.Config{CA: w.Mesh.CA}); err != nil {
			return err
		}
		c.ownConsul = true
	}
	aws := cfg.AWS
	aws.Account, aws.Partition, aws.Region = c.place.Account, c.place.Partition, c.place.Region
	aws.OnEvent, aws.SetterEvents = c.onEvent, !cfg.Quiet
	if c.AWS, err = controlsim.Start(aws); err != nil {
		return err
	}
	c.AWS.RequireAuth(principal(c.role, nil))
	return nil
}

// Close ends the registrator, without waiting for what it is doing, and the parts. What is not delivered is dropped.
func (c *Control) Close() {
	c.end()
	c.Recycle()
	if c.AWS != nil {
		c.AWS.Close()
	}
	c.Recycle() // a delivery may have started one meanwhile
	if c.ownConsul {
		c.Consul.Close()
	}
}
