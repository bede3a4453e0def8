// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/consul-lambda/consul-lambda/internal/lab"
	"github.com/consul-lambda/consul-lambda/internal/lab/lambdasim"
	"github.com/consul-lambda/consul-lambda/internal/lab/meshsim"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "see a function join a mesh, and talk through it, that lives on this machine only (Linux)",
		Description: strings.TrimSpace(`
The demo starts a small world on loopback and runs the real registrator and the real extension in it, with a real Go
function: no AWS account, no Consul, no network, no root. Nothing is written to disk, and everything has ended when the
command has.

What is real: the registrator's and the extension's binaries, unmodified; the function (examples/mesh-function), built with
aws-lambda-go; AWS's protocols and Consul's HTTP API between the registrator and what it talks to; TCP and TLS between the
extension, the gateway and the services; the freeze, which stops the processes with SIGSTOP.

What stands in: a small Lambda (control plane, events, Extensions API, Runtime API), a small Parameter Store, a small Consul
with a certificate authority, a gateway that routes by server name, sidecars that enforce intentions. It is not Envoy.

The steps, each of which is checked:

   1  a function is created and tagged, and an event makes the registrator register it
   2  a cold start, and what the extension adds to it
   3  calls through the mesh: HTTP on a kept connection, TCP with a half-close
   4  new leaves and a new root while a stream is running
   5  a freeze that outlasts the leaf
   6  a service whose intention denies the function
   7  a gateway that has gone
   8  SHUTDOWN, with bytes still on their way
   9  the tag is taken off, and the registrator takes the function out

The exit status is 0 if all of them went as they should. Times depend on the machine and are not a benchmark.`),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object at the end, for machines, and nothing else"},
			binFlag(),
		},
		Action: runDemo,
	}
}

// stepLimit bounds a step: several times what the longest takes.
const stepLimit = 30 * time.Second

func runDemo(ctx context.Context, cmd *cli.Command) error {
	programs, err := findPrograms(cmd)
	if err != nil {
		return err
	}
	t := newTranscript(cmd.Root().Writer, cmd.Bool("json"))
	return t.end(tellDemo(ctx, t, programs))
}

// binFlag is for [findPrograms].
func binFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "bin", Usage: "where consul-lambda-extension, consul-lambda-registrator and mesh-function are", DefaultText: "beside this program",
	}
}

// findPrograms finds them where the flag says, or in the folder of this program.
func findPrograms(cmd *cli.Command) (lab.Programs, error) {
	dir := cmd.String("bin")
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return lab.Programs{}, fmt.Errorf("looking for this program's folder: %w", err)
		}
		dir = filepath.Dir(self)
	}
	programs, err := lab.FindPrograms(dir)
	if err != nil {
		return lab.Programs{}, fmt.Errorf("%w; run make build first, or say --bin where they are", err)
	}
	return programs, nil
}

// tellDemo makes a world, tells the steps up to the first that fails, and ends the world.
func tellDemo(ctx context.Context, t *transcript, programs lab.Programs) (err error) {
	world, err := lab.New(ctx, lab.Config{Programs: programs, Unregistered: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, world.Close()) }()
	control, err := world.StartControl(lab.ControlConfig{})
	if err != nil {
		return err
	}
	defer control.Close()
	d := &demo{world: world, control: control}
	defer d.kill()
	t.print("%s\n%s", t.paint(bold, "A Lambda function in a Consul mesh, on this machine only"), picture(world))
	for _, s := range []struct {
		name, lead string
		do         func(context.Context, *step) error
		log        func() []string
	}{
		{"Registration", "a function is created, and tagged: the events reach the registrator", d.registration, d.registratorLog},
		{"Cold start", "Lambda starts the extension, then the function", d.coldStart, d.extensionLog},
		{"Calls", "the function calls localhost, and reaches the mesh", d.calls, d.extensionLog},
		{"Rotation", "new leaves and a new root, while a stream is running", d.rotation, d.extensionLog},
		{"Freeze", "Lambda freezes the sandbox for longer than the leaf lives", d.freeze, d.extensionLog},
		{"Denied", "an intention denies the function", d.denied, d.extensionLog},
		{"No gateway", "the way into the mesh is gone, and comes back", d.noGateway, d.extensionLog},
		{"Shutdown", "Lambda ends the sandbox, with bytes on their way", d.shutdown, d.extensionLog},
		{"Removal", "the tag is taken off: the event reaches the registrator", d.removal, d.registratorLog},
	} {
		ctx, cancel := context.WithTimeout(ctx, stepLimit)
		err := t.run(s.name, s.lead, func(st *step) error { return s.do(ctx, st) }, s.log)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// picture shows the world.
func picture(w *lab.World) string {
	rows := []any{}
	for _, s := range []struct{ name, what string }{
		{lab.Web, "HTTP"}, {lab.Echo, "TCP"}, {lab.Digest, "TCP, answers at the end"},
		{lab.Greeter, "TCP, speaks first"}, {lab.Collector, "TCP, only listens"}, {lab.Denied, "HTTP, denies the function"},
	} {
		rows = append(rows, w.Addr(s.name), fmt.Sprintf("%-10s %s", s.name, s.what))
	}
	return fmt.Sprintf(`
   function            extension                      gateway            services, each with a sidecar
  +----------+        +----------------------+       +-----------+       +--------------------------------------+
  |          |        | %-20s |       |           |       | %-36s |
  | checkout |  TCP   | %-20s | mTLS  | routes by | mTLS  | %-36s |
  |          | -----> | %-20s | ====> | server    | ====> | %-36s |
  | a real   |        | %-20s |       | name      |       | %-36s |
  | Go one   |        | %-20s |       |           |       | %-36s |
  |          |        | %-20s |       |           |       | %-36s |
  +----------+        +----------------------+       +-----------+       +--------------------------------------+
        |               |                 |
      Runtime API   Extensions API   Parameter Store, with the function's key, leaf and roots
                                          ^
        AWS: functions, tags, events  ->  registrator  ->  Consul: catalog, service-defaults; its CA
`, rows...)
}

// demo is the story's state.
type demo struct {
	world   *lab.World
	control *lab.Control
	box     *lambdasim.Sandbox // nil before the cold start
	leaf    *meshsim.Leaf      // the last one that the demo stored itself
	serial  string             // of the leaf stored last, by whomever
	uses    int                // generations of credentials that the extension has used
	lines   []lambdasim.Line   // of an Init that failed
}

func (d *demo) kill() {
	if d.box != nil {
		d.box.Kill()
	}
}

// registratorLog returns the registrator's log so far.
func (d *demo) registratorLog() (log []string) {
	if box := d.control.Sandbox(); box != nil {
		for _, l := range box.Logs() {
			log = append(log, l.Text)
		}
	}
	return log
}

// extensionLog returns the extension's log so far.
func (d *demo) extensionLog() (log []string) {
	lines := d.lines
	if d.box != nil {
		lines = d.box.Logs()
	}
	for _, l := range lines {
		if l.Source == lab.ExtensionName {
			log = append(log, l.Text)
		}
	}
	return log
}

// storeLeaf puts a new leaf into the store.
func (d *demo) storeLeaf(ttl time.Duration) (err error) {
	if d.leaf, err = d.world.StoreLeaf(ttl); err != nil {
		return err
	}
	d.serial = d.leaf.Serial()
	return nil
}

// awaitLeaf waits until the extension has taken up the leaf stored last.
func (d *demo) awaitLeaf(ctx context.Context) error {
	d.uses++
	seen := 0
	_, err := d.box.WaitLog(ctx, func(l lambdasim.Line) bool {
		if strings.Contains(l.Text, `"credentials in use"`) {
			seen++
		}
		return seen == d.uses
	})
	if err != nil {
		return fmt.Errorf("waiting until the extension uses leaf %s: %w", d.serial, err)
	}
	return nil
}

// greeting makes a new connection in the function's place, which is busy, and returns what Greeter says.
func (d *demo) greeting(ctx context.Context) (h lab.Hello, err error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", d.world.Addr(lab.Greeter))
	if err != nil {
		return h, err
	}
	defer func() { _ = c.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(line, &h)
}

// tellLog shows the line that the extension has logged of a failure at the service.
func (d *demo) tellLog(ctx context.Context, s *step, service string) error {
	line, err := d.box.WaitLog(ctx, func(l lambdasim.Line) bool {
		return strings.Contains(l.Text, `"connection failed"`) && strings.Contains(l.Text, `"upstream":"`+service+":")
	})
	if err != nil {
		return fmt.Errorf("waiting for a log line about %s: %w", service, err)
	}
	var fields struct{ Msg, Cause, Error string }
	if err := json.Unmarshal([]byte(line.Text), &fields); err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	s.tell("the extension logs", fmt.Sprintf("%s, cause %s:", fields.Msg, fields.Cause), fields.Error)
	return nil
}

// quiet waits until the gateway has seen no new connection for a while.
func (d *demo) quiet(ctx context.Context) error {
	for last := int64(-1); ; {
		n := d.world.Mesh.Gateway.Stats().Accepted
		if n == last {
			return nil
		}
		last = n
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
