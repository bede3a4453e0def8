// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab"
)

// function is the name of the world's.
const function = "checkout"

// registration creates the function, tags it, and looks at what the registrator makes of it.
func (d *demo) registration(ctx context.Context, s *step) error {
	if err := want(!d.registered() && !d.stored(), "nothing of the function in Consul and the store", d.seen()); err != nil {
		return err
	}
	created, err := d.event(ctx, func() { d.control.AWS.AddFunction(function, nil) })
	if err != nil {
		return err
	}
	s.tell("CreateFunction", created, "the event starts the registrator; without a tag there is nothing to do")
	if err := want(!d.registered() && !d.stored(), "nothing of a function without a tag", d.seen()); err != nil {
		return err
	}
	tagged, err := d.event(ctx, func() { d.control.AWS.SetTags(function, map[string]string{lab.EnabledTag: "true"}) })
	if err != nil {
		return err
	}
	s.tell("TagResource", tagged, "from the event to the end of the run; the tag is …/lambda/enabled = true")
	services := d.control.Consul.Services()
	if err := want(len(services) == 1 && services[0].Name == function && d.stored(), "the function in Consul and in the store", d.seen()); err != nil {
		return err
	}
	s.tell("in Consul's catalog", services[0].Name, "a service on node "+services[0].Node)
	arn := d.control.AWS.ARN(function)
	s.tell("its service-defaults invoke", arn, "")
	entry := d.control.Consul.Entry(function)
	if err := want(strings.Contains(entry, "builtin/aws/lambda") && strings.Contains(entry, arn), "Consul's Lambda extension with "+arn, entry); err != nil {
		return err
	}
	document, _ := d.world.Store.Get(d.world.ParameterPath())
	leaf, err := d.world.StoredLeaf()
	if err != nil {
		return err
	}
	s.tell("in Parameter Store", document.Name, fmt.Sprintf("a %s: key, leaf and roots; the leaf has %.0f h to live", document.Type, time.Until(leaf.NotAfter).Hours()))
	d.serial = leaf.SerialNumber.Text(16)
	return errors.Join(
		want(document.Type == "SecureString", "an encrypted parameter", document.Type),
		want(len(leaf.URIs) == 1 && leaf.URIs[0].String() == d.world.FunctionID().String(), "a leaf of "+d.world.FunctionID().String(), leaf.URIs),
	)
}

// removal takes the tag off.
func (d *demo) removal(ctx context.Context, s *step) error {
	took, err := d.event(ctx, func() { d.control.AWS.SetTags(function, nil) })
	if err != nil {
		return err
	}
	s.tell("UntagResource", took, "from the event to the end of the run")
	if err := want(!d.registered() && !d.stored(), "nothing of the function any more", d.seen()); err != nil {
		return err
	}
	s.tell("in Consul", "nothing", "neither a service nor service-defaults")
	s.tell("in Parameter Store", "nothing", "the key went last")
	return nil
}

// event does what makes an event, and waits until the registrator has answered it.
func (d *demo) event(ctx context.Context, change func()) (time.Duration, error) {
	begin := time.Now()
	change()
	if err := d.control.AWS.WaitEvents(ctx); err != nil {
		return 0, fmt.Errorf("waiting for the registrator: %w", err)
	}
	took := time.Since(begin)
	all := d.control.Invocations()
	if len(all) == 0 {
		return 0, errors.New("no event came")
	}
	switch last := all[len(all)-1]; {
	case last.Err != nil:
		return 0, fmt.Errorf("invoking the registrator: %w", last.Err)
	case last.Failed():
		return 0, fmt.Errorf("the registrator failed: %s", last.Result.Payload)
	}
	return took, nil
}

// renew has the registrator look at everything, and takes note of the leaf that it stores.
func (d *demo) renew(ctx context.Context) error {
	r, err := d.control.Schedule(ctx)
	if err != nil {
		return fmt.Errorf("invoking the registrator: %w", err)
	}
	var result struct{ Renewed int }
	if err := json.Unmarshal(r.Payload, &result); err != nil || r.FunctionError != "" || result.Renewed != 1 {
		return want(false, "one document renewed", string(r.Payload))
	}
	leaf, err := d.world.StoredLeaf()
	if err != nil {
		return err
	}
	d.serial = leaf.SerialNumber.Text(16)
	return nil
}

// registered says whether Consul has anything of the function.
func (d *demo) registered() bool {
	return d.control.Consul.Entry(function) != "" || len(d.control.Consul.Services()) > 0
}

// stored says whether the store has the function's document.
func (d *demo) stored() bool { return slices.Contains(d.world.Store.Names(), d.world.ParameterPath()) }

// seen is what there is, when something else was expected.
func (d *demo) seen() string {
	return fmt.Sprintf("catalog %v, service-defaults %q, store %v", d.control.Consul.Services(), d.control.Consul.Entry(function), d.world.Store.Names())
}
