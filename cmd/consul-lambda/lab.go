// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
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
checkout and orders. It ends with Ctrl-C, and nothing is left. No AWS account, no Consul and no network are needed.

Standard output has the environment by which programs find this world, as a shell reads it; standard error has a line for each event:

   consul-lambda lab > lab.env &
   . ./lab.env
   consul-lambda doctor
   consul-lambda plan
   aws lambda tag-resource --resource arn:aws:lambda:us-east-1:123456789012:function:orders --tags team=shop
   consul-lambda-extension &
   curl http://$CONSUL_EXTENSION_BIND_ADDR:8080/

The extension finds a Runtime API that registers it and has no event for it before the end. The registrator runs in a sandbox of the
lab, by the events of tags that the AWS CLI changes; one that is started by hand runs once.

--break makes something go wrong; doctor, or plan, is to find it:

` + faultHelp() + `

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
	if err := noArguments(cmd); err != nil {
		return err
	}
	broken := cmd.StringSlice("break")
	for _, name := range broken {
		if _, err := findFault(name); err != nil {
			return err
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
	for _, line := range s.exports() {
		_, _ = fmt.Fprintln(out, line)
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

// eventLog is the lab's standard error: a line for each event. It may be used by many goroutines.
type eventLog struct {
	mu    sync.Mutex
	w     io.Writer
	paint painter
}

// tell writes one line; empty parts are left out.
func (e *eventLog) tell(who string, parts ...string) {
	text := strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
	e.mu.Lock()
	defer e.mu.Unlock()
	_, _ = fmt.Fprintf(e.w, "%s  %-11s  %s\n", e.paint(dim, time.Now().Format(time.TimeOnly)), who, text)
}
