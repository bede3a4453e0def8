// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
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
		Usage: "see a function talk through a mesh that lives on this machine only (Linux)",
		Description: strings.TrimSpace(`
The demo starts a small world on loopback and runs the real extension in it, with a real Go function: no AWS account, no
Consul, no network, no root. Nothing is written to disk, and everything has ended when the command has.

What is real: the extension's binary, unmodified; the function (examples/mesh-function), built with aws-lambda-go; TCP and
TLS between them, the gateway and the services; the freeze, which stops the processes with SIGSTOP.

What stands in: a small Lambda (Extensions API, Runtime API), a small Parameter Store, a certificate authority with
Consul's kind of certificates, a gateway that routes by server name, sidecars that enforce intentions. It is not Envoy.

The steps, each of which is checked:

   1  a cold start, and what the extension adds to it
   2  calls through the mesh: HTTP on a kept connection, TCP with a half-close
   3  new leaves and a new root while a stream is running
   4  a freeze that outlasts the leaf
   5  a service whose intention denies the function
   6  a gateway that has gone
   7  SHUTDOWN, with bytes still on their way

The exit status is 0 if all of them went as they should. Times depend on the machine and are not a benchmark.`),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object at the end, for machines, and nothing else"},
			&cli.StringFlag{Name: "bin", Usage: "where consul-lambda-extension and mesh-function are", DefaultText: "beside this program"},
		},
		Action: runDemo,
	}
}

// stepLimit bounds a step: several times what the longest takes.
const stepLimit = 30 * time.Second

func runDemo(ctx context.Context, cmd *cli.Command) error {
	dir, err := programsDir(cmd.String("bin"))
	if err != nil {
		return err
	}
	programs, err := lab.FindPrograms(dir)
	if err != nil {
		return fmt.Errorf("%w; run make build first, or say --bin where they are", err)
	}
	t := newTranscript(cmd.Root().Writer, cmd.Bool("json"))
	return t.end(tellDemo(ctx, t, programs))
}

// programsDir returns dir, or the folder of this program.
func programsDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("looking for this program's folder: %w", err)
	}
	return filepath.Dir(self), nil
}

// tellDemo makes a world, tells the steps up to the first that fails, and ends the world.
func tellDemo(ctx context.Context, t *transcript, programs lab.Programs) (err error) {
	world, err := lab.New(ctx, lab.Config{Programs: programs})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, world.Close()) }()
	d := &demo{world: world}
	defer d.kill()
	t.print("%s\n%s", t.paint(bold, "A Lambda function in a Consul mesh, on this machine only"), picture(world))
	for _, s := range []struct {
		name, lead string
		do         func(context.Context, *step) error
	}{
		{"Cold start", "Lambda starts the extension, then the function", d.coldStart},
		{"Calls", "the function calls localhost, and reaches the mesh", d.calls},
		{"Rotation", "new leaves and a new root, while a stream is running", d.rotation},
		{"Freeze", "Lambda freezes the sandbox for longer than the leaf lives", d.freeze},
		{"Denied", "an intention denies the function", d.denied},
		{"No gateway", "the way into the mesh is gone, and comes back", d.noGateway},
		{"Shutdown", "Lambda ends the sandbox, with bytes on their way", d.shutdown},
	} {
		ctx, cancel := context.WithTimeout(ctx, stepLimit)
		err := t.run(s.name, s.lead, func(st *step) error { return s.do(ctx, st) }, d.extensionLog)
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
`, rows...)
}

// demo is the story's state.
type demo struct {
	world *lab.World
	box   *lambdasim.Sandbox // nil before the cold start
	leaf  *meshsim.Leaf      // the one stored last
	uses  int                // generations of credentials that the extension has used
	lines []lambdasim.Line   // of an Init that failed
}

func (d *demo) kill() {
	if d.box != nil {
		d.box.Kill()
	}
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
