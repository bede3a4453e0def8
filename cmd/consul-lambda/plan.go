// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/consul-lambda/consul-lambda/internal/assemble"
	"github.com/consul-lambda/consul-lambda/internal/lambdaapi"
	"github.com/consul-lambda/consul-lambda/internal/registratorenv"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// planned are the registrator's variables that a flag may say: those that decide what is planned. The others are read all the same.
var planned = []struct{ flag, variable, usage string }{
	{"node", "NODE_NAME", "node of the catalog that carries the functions"},
	{"prefix", "CONSUL_EXTENSION_DATA_PREFIX", "path prefix of the credential documents"},
	{"datacenter", "DATACENTER", "the only datacenter that is kept"},
	{"enterprise", "ENTERPRISE", "true: functions may ask for a namespace and a partition"},
	{"partitions", "PARTITIONS", "partitions that are kept, separated by commas"},
	{"policy", "CONSUL_LAMBDA_POLICY", "sync, upsert-only or dry-run"},
	{"max-deletes", "CONSUL_LAMBDA_MAX_DELETES", "how many deletes one run may make"},
}

const planName = "plan"

func planCommand() *cli.Command {
	flags := append(awsFlags(),
		&cli.StringFlag{Name: "account", Usage: "refuse to plan for any AWS account but this one"},
		&cli.StringFlag{Name: "function", Usage: "plan for one function only"},
		&cli.BoolFlag{Name: "json", Usage: "print the plan as one JSON object"},
	)
	for _, p := range planned {
		flags = append(flags, &cli.StringFlag{Name: p.flag, Usage: p.usage, DefaultText: p.variable})
	}
	return &cli.Command{
		Name:  planName,
		Usage: "see what the registrator would change, and why; change nothing",
		Description: strings.TrimSpace(`
The registrator's own code reads AWS and Consul and compares them. What it would do is printed in the order in which it would be done,
each change with its reason and with what differs. Nothing is written, neither to Consul nor to AWS.

AWS is that of your profile, single sign-on or environment, as for the AWS CLI; these permissions are enough: tag:GetResources,
lambda:ListFunctions, lambda:GetFunction, lambda:ListTags, ssm:DescribeParameters. Consul is that of CONSUL_HTTP_ADDR,
CONSUL_HTTP_TOKEN and their kin. All else is the registrator's environment (see docs/configuration.md): give the values that it has,
or the plan is another registrator's.

   consul-lambda plan --profile shop --account 123456789012 --node lambdas --prefix /consul/lambda
   consul-lambda plan --function checkout
   consul-lambda plan --json | jq '.changes[]? | select(.kind == "delete")'

In a world that "consul-lambda lab" has started, its variables are all it takes.

The exit status is 0 if there is nothing to change, 2 if there is, 1 if the plan could not be made in whole. So it is for --function
with a name that AWS does not have, unless something is registered of it: that is then to be deleted, and the status is 2.`),
		Flags:  flags,
		Action: runPlan,
	}
}

// errChanges makes the exit status 2.
var errChanges = exit{2, errTold}

func runPlan(ctx context.Context, cmd *cli.Command) error {
	root := cmd.Root()
	p, err := makePlan(ctx, cmd)
	if err != nil {
		return err
	}
	if cmd.Bool("json") {
		if err := json.NewEncoder(root.Writer).Encode(p); err != nil {
			return err
		}
	} else {
		p.print(root.Writer, painterFor(root.Writer))
	}
	switch {
	case len(p.Failures) > 0:
		return exit{1, errTold}
	case !p.Empty():
		return errChanges
	}
	return nil
}

// statedPlan is a plan, and for whom it was made.
type statedPlan struct {
	Account  string `json:"account"`
	Region   string `json:"region"`
	Node     string `json:"node"`
	Function string `json:"function,omitempty"` // "": all
	registrator.Plan
}

// makePlan reads and compares. The token and the certificate of Consul may be in Parameter Store: they are read there.
func makePlan(ctx context.Context, cmd *cli.Command) (statedPlan, error) {
	settings, err := registratorenv.Parse(planEnvironment(cmd, os.Environ()))
	if err != nil {
		return statedPlan{}, fmt.Errorf("the registrator's configuration, by variables or by flags (see consul-lambda plan --help):\n%s", withFlags(err))
	}
	log := slog.New(slog.NewTextHandler(cmd.Root().ErrWriter, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for _, w := range settings.Warnings {
		log.Warn("configuration", "warning", w)
	}
	awsConfig, err := loadAWS(ctx, cmd)
	if err != nil {
		return statedPlan{}, err
	}
	owner, err := whoAmI(ctx, awsConfig)
	if err != nil {
		return statedPlan{}, err
	}
	if want := cmd.String("account"); want != "" && want != owner.Account {
		return statedPlan{}, fmt.Errorf("the credentials are of account %s, not of %s: choose another --profile", owner.Account, want)
	}
	scope := registrator.Scope{}
	if name := cmd.String("function"); name != "" {
		if _, err := owner.Function(name); err != nil {
			return statedPlan{}, fmt.Errorf("--function: %w", err)
		}
		scope.Functions = []string{name}
	}
	parts, err := assemble.New(ctx, assemble.Config{Settings: settings, AWS: awsConfig, Owner: owner, Program: "consul-lambda plan", Log: log})
	if err != nil {
		return statedPlan{}, err
	}
	defer parts.Close()
	r, err := parts.Registrator(ctx)
	if err != nil {
		return statedPlan{}, err
	}
	plan, err := r.Plan(ctx, scope)
	if errors.Is(err, registrator.ErrObserve) {
		err = fmt.Errorf("%w\n(Consul is that of CONSUL_HTTP_ADDR, %q; AWS is account %s in %s)", err, os.Getenv("CONSUL_HTTP_ADDR"), owner.Account, owner.Region)
	}
	p := statedPlan{owner.Account, owner.Region, settings.NodeName, cmd.String("function"), plan}
	if err == nil && p.Function != "" && p.Empty() && len(p.Failures) == 0 {
		p.explainNothing(ctx, lambdaapi.New(lambdaapi.Config{AWS: awsConfig}))
	}
	return p, err
}

// explainNothing says why there is nothing to do for the one function that was asked for, where its name or its tags may be a mistake.
func (p *statedPlan) explainNothing(ctx context.Context, functions *lambdaapi.Client) {
	note := func(format string, args ...any) registrator.Note {
		return registrator.Note{Name: p.Function, Text: fmt.Sprintf(format, args...)}
	}
	f, err := functions.Get(ctx, p.Function)
	if errors.Is(err, registrator.ErrNoFunction) {
		p.Failures = append(p.Failures, note("AWS has no function of this name in account %s in %s, and nothing is registered of it: "+
			"is this its name, and is it the right --region and --profile?", p.Account, p.Region))
		return
	}
	if err != nil {
		p.Failures = append(p.Failures, note("%v", err))
		return
	}
	if value, ok := f.Tags[registrator.TagEnabled]; !ok {
		p.Warnings = append(p.Warnings, note("it is not tagged, and nothing is registered of it: set its tag %s to true if it is to be", registrator.TagEnabled))
	} else if on, _ := strconv.ParseBool(strings.ToLower(strings.TrimSpace(value))); !on && len(p.Warnings) == 0 {
		p.Warnings = append(p.Warnings, note("its tag %s is %q, and nothing is registered of it: set it to true if it is to be", registrator.TagEnabled, value))
	}
}

// withFlags names the flag beside each variable that has one. A line of the error begins with its variable.
func withFlags(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		for _, p := range planned {
			if rest, ok := strings.CutPrefix(line, p.variable+":"); ok {
				lines[i] = p.variable + " (--" + p.flag + "):" + rest
			}
		}
	}
	return strings.Join(lines, "\n")
}

// planEnvironment is the environment with what the flags say in it. What comes first counts.
func planEnvironment(cmd *cli.Command, environ []string) []string {
	var given []string
	for _, p := range planned {
		if cmd.IsSet(p.flag) {
			given = append(given, p.variable+"="+cmd.String(p.flag))
		}
	}
	return append(given, environ...)
}

// marks are those of a diff.
var marks = map[registrator.Kind]struct{ mark, color string }{
	registrator.Create: {"+", green}, registrator.Update: {"~", yellow}, registrator.Renew: {"~", cyan}, registrator.Delete: {"-", red},
}

// print writes the plan for people.
func (p statedPlan) print(w io.Writer, paint painter) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	what := "all functions"
	if p.Function != "" {
		what = "function " + p.Function
	}
	line("%s", paint(dim, fmt.Sprintf("%s of account %s in %s, node %s", what, p.Account, p.Region, p.Node)))
	counts := make(map[registrator.Kind]int)
	for _, c := range p.Changes {
		counts[c.Kind]++
		m := marks[c.Kind]
		line("\n%s  %s", paint(m.color, fmt.Sprintf("%s %-6s %s", m.mark, c.Kind, c.Name)), paint(dim, c.Function))
		line("    %s", c.Reason)
		width := 0
		for _, d := range c.Diff {
			width = max(width, len(d.Field))
		}
		for _, d := range c.Diff {
			line("      %-*s  %s", width, d.Field, changed(c.Kind, d, paint))
		}
	}
	for _, group := range []struct {
		word, color string
		notes       []registrator.Note
	}{{"held", yellow, p.Held}, {"warning", yellow, p.Warnings}, {"failure", red, p.Failures}} {
		if len(group.notes) > 0 {
			line("")
		}
		for _, n := range group.notes {
			line("%s  %s: %s", paint(group.color, fmt.Sprintf("%-7s", group.word)), n.Name, n.Text)
		}
	}
	if len(p.Failures) > 0 {
		line("\n%s", paint(red, "The plan is incomplete: nothing could be planned for what failed."))
	}
	if p.Empty() {
		if len(p.Failures) == 0 {
			line("\n%s", paint(green, "Nothing to change."))
		}
		return
	}
	line("\n%s", paint(bold, fmt.Sprintf("%d to create, %d to update, %d to renew, %d to delete; %d held. Nothing was written.",
		counts[registrator.Create], counts[registrator.Update], counts[registrator.Renew], counts[registrator.Delete], len(p.Held))))
	if p.OverCap {
		line("%s", paint(red, "There are more deletes than a run may make: it would make none of them, and fail (CONSUL_LAMBDA_MAX_DELETES)."))
	}
}

// changed shows one field: what goes, and what comes.
func changed(kind registrator.Kind, d registrator.Difference, paint painter) string {
	switch {
	case d.Before == "":
		return paint(green, d.After)
	case kind == registrator.Delete && d.After == "": // all of it goes
		return paint(red, d.Before)
	case d.After == "":
		return paint(red, d.Before) + " -> (none)"
	}
	return paint(red, d.Before) + " -> " + paint(green, d.After)
}
