// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/registrator"
)

func labCommand() *cli.Command {
	return &cli.Command{
		Name:  "lab",
		Usage: "start a world on this machine and leave it running, to try things in (Linux)",
		Description: strings.TrimSpace(`
A miniature of AWS and of a mesh, on loopback: Lambda's control plane and tags, Parameter Store, Consul's catalog and certificate
authority, a mesh gateway, services with sidecars, and the real registrator between them, which has registered two functions,
checkout and orders. It serves until Ctrl-C or SIGTERM, and nothing is left. No AWS account, no Consul and no network are needed.

Standard output has the environment by which programs find this world, as a shell reads it; standard error has a line for each event:

   consul-lambda lab > lab.env &
   . ./lab.env
   consul-lambda doctor
   consul-lambda doctor --function checkout
   consul-lambda plan
   aws lambda tag-resource --resource arn:aws:lambda:us-east-1:123456789012:function:orders --tags team=shop
   consul-lambda-extension &
   curl http://$CONSUL_EXTENSION_BIND_ADDR:8080/

The extension finds a Runtime API that registers it and has no event for it before the end. The registrator runs in a sandbox of the
lab, by the events of tags that the AWS CLI changes; one that is started by hand gets one empty event, makes a full run, and then waits
for the next event, which does not come, until SIGTERM.

--break makes something go wrong; doctor, or plan, is to find it:

` + faultHelp() + `

It may be given several times. Doctor makes the extension's way, and finds what comes first on it: of access-denied and no-route, say,
only the former, which leaves no document to try a route with.

What stands in for what is said in "consul-lambda demo --help". The gateway is not Envoy, and the credentials are of no use elsewhere.`),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "break", Usage: "do `FAULT` to the world, once it is well"},
			binFlag(),
		},
		Action: runLab,
	}
}

// enabled are the functions that the lab's registrator registers.
var enabled = []string{"checkout", "orders"}

func runLab(ctx context.Context, cmd *cli.Command) error {
	broken := cmd.StringSlice("break")
	for _, name := range broken {
		if _, err := findFault(name); err != nil {
			return misused(cmd, err)
		}
	}
	programs, err := findPrograms(cmd)
	if err != nil {
		return err
	}
	root := cmd.Root()
	events := &eventLog{w: root.ErrWriter, paint: painterFor(root.ErrWriter)}
	return liveLab(ctx, programs, broken, root.Writer, events)
}

// liveLab makes the world, and keeps it until ctx ends.
func liveLab(ctx context.Context, programs lab.Programs, broken []string, out io.Writer, events *eventLog) (err error) {
	world, err := lab.New(ctx, lab.Config{Programs: programs, Unregistered: true, Log: events.logger()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, world.Close()) }()
	control, err := world.StartControl(lab.ControlConfig{Quiet: true})
	if err != nil {
		return err
	}
	defer control.Close()
	api, err := startRuntimeAPI(ctx, world.Function().Name, events)
	if err != nil {
		return err
	}
	defer api.close()
	s := newSite(world, control.AWS, control.Consul)
	s.env["AWS_LAMBDA_RUNTIME_API"] = api.addr()

	for _, name := range enabled {
		control.AWS.AddFunction(name, map[string]string{registrator.TagEnabled: "true"})
	}
	if result, err := control.Schedule(ctx); err != nil || result.FunctionError != "" {
		return fmt.Errorf("the registrator's first run: %w", errors.Join(err, errors.New(string(result.Payload))))
	}
	if err := s.breaks(broken); err != nil {
		return err
	}
	s.configure(enabled)
	if _, err := fmt.Fprintln(out, strings.Join(s.exports(), "\n")); err != nil {
		return fmt.Errorf("writing the environment to standard output: %w", err)
	}
	events.tell("lab", "ready: "+strings.Join(enabled, ", ")+" are registered; Ctrl-C ends it")
	for _, name := range broken {
		f, _ := findFault(name)
		events.tell("lab", "broken: "+f.what)
	}
	s.watch(ctx, control, events)
	return nil
}

// watchEvery is how often the servers are asked what came. A person does not see the difference to at once.
const watchEvery = 100 * time.Millisecond

// watch tells what happens until ctx ends.
func (s *site) watch(ctx context.Context, control *lab.Control, events *eventLog) {
	runs, store, aws, consul := len(control.Invocations()), len(s.world.Store.Calls()), len(s.aws.Calls()), len(s.consul.Calls())
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		storeCalls, awsCalls, consulCalls, invocations := s.world.Store.Calls(), s.aws.Calls(), s.consul.Calls(), control.Invocations()
		for _, c := range storeCalls[store:] {
			if c.Op != "" { // else it was asked for its clock
				events.tell("store", c.Op, c.Name)
			}
		}
		for _, c := range awsCalls[aws:] {
			events.tell("aws", c.Op, c.Name)
		}
		for _, c := range consulCalls[consul:] {
			events.tell("consul", c.Op, c.Name)
		}
		for _, i := range invocations[runs:] {
			how := "ran"
			if i.Failed() {
				how = "failed"
			}
			events.tell("registrator", how, string(i.Result.Payload))
		}
		store, aws, consul, runs = len(storeCalls), len(awsCalls), len(consulCalls), len(invocations)
	}
}
