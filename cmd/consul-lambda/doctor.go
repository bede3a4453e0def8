// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/urfave/cli/v3"

	"github.com/consul-lambda/consul-lambda/internal/doctor"
)

const doctorName = "doctor"

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  doctorName,
		Usage: "find out why a function does not reach the mesh, and what to do about it",
		Description: strings.TrimSpace(`
The extension's way is made step by step, with its own code: configuration, Parameter Store and the key of the document, the document
(key, roots, expiry, identity), the clock, each mesh gateway (name, TCP), and each upstream through each gateway (route, and who
answers). Each check is one line; one that fails says what to do. The first failure is the one to look at.

The configuration is that of the environment (CONSUL_MESH_GATEWAY_URI and its kin, with AWS_LAMBDA_FUNCTION_NAME), or of a function
in your account:

   consul-lambda doctor --function checkout --profile shop
   consul-lambda doctor --function checkout --upstream web --send

From your machine it is your credentials that read the document (ssm:GetParameter, kms:Decrypt, and lambda:GetFunctionConfiguration
for --function), and your network that reaches the gateway. To see it with the function's own, have the function run it: invoke
examples/mesh-function with {"doctor":true}.

Connections are opened and closed, and nothing is sent to a service. An intention is judged at the first byte, so whether one denies
the function mostly cannot be told without; --send sends an HTTP request, "OPTIONS *". A service that does not speak HTTP may log it
as an error.

No key, certificate or credential is printed.

The exit status is 0 if nothing failed, 1 if a check did, 2 if the checks could not be made: --json then prints an object with "error"
and no results in it. A flag that is not known, or has a value of another kind, is told on standard error only.`),
		Flags: append(awsFlags(),
			&cli.StringFlag{Name: "function", Usage: "read the configuration of this function from AWS", DefaultText: "that of the environment"},
			&cli.StringSliceFlag{Name: "upstream", Usage: "look at the upstreams of this service only"},
			&cli.BoolFlag{Name: "send", Usage: "send an HTTP request to each upstream that is looked at"},
			&cli.DurationFlag{Name: "watch", Usage: "how long an open connection is watched for its end", Value: 500 * time.Millisecond},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object at the end, for machines, and nothing else"},
		),
		Action: runDoctor,
	}
}

func runDoctor(ctx context.Context, cmd *cli.Command) error {
	w, asJSON := cmd.Root().Writer, cmd.Bool("json")
	cfg, err := doctorConfig(ctx, cmd)
	if err != nil {
		if asJSON {
			err = errors.Join(err, json.NewEncoder(w).Encode(unmade{doctor.Report{Results: []doctor.Result{}}, err.Error()}))
		}
		return exit{2, err}
	}
	paint := painterFor(w)
	if !asJSON {
		cfg.Told = func(r doctor.Result) { printResult(w, paint, r) }
	}
	report := doctor.Run(ctx, cfg)
	if err := ctx.Err(); err != nil {
		return err
	}
	switch {
	case asJSON:
		if err := json.NewEncoder(w).Encode(report); err != nil {
			return exit{2, err}
		}
	case report.OK:
		_, _ = fmt.Fprintf(w, "\n%s\n", paint(green, summary(report)))
		if untold(report) && !cfg.Send {
			_, _ = fmt.Fprintln(w, "A sidecar may deny a function only at its first byte: consul-lambda doctor --send sends one, and finds that.")
		}
	default:
		_, _ = fmt.Fprintf(w, "\n%s\n", paint(red, summary(report)))
	}
	if !report.OK {
		return exit{1, errTold}
	}
	return nil
}

// unmade is the JSON of checks that could not be made.
type unmade struct {
	doctor.Report
	Error string `json:"error"`
}

// untold says whether an intention that denies the function may have been missed.
func untold(r doctor.Report) bool {
	return slices.ContainsFunc(r.Results, func(r doctor.Result) bool { return r.Name == "intention" && r.Status == doctor.Skip })
}

func summary(r doctor.Report) string {
	if r.OK {
		return fmt.Sprintf("No check failed; %d warned, %d could not be made or told from here.", r.Warned, r.Skipped)
	}
	first := slices.IndexFunc(r.Results, func(r doctor.Result) bool { return r.Status == doctor.Fail })
	return fmt.Sprintf("%d of %d checks failed, %d warned. Begin with the first: %s.", r.Failed, len(r.Results), r.Warned, r.Results[first].Name)
}

var statusColors = map[doctor.Status]string{doctor.OK: green, doctor.Warn: yellow, doctor.Fail: red, doctor.Skip: dim}

func printResult(w io.Writer, paint painter, r doctor.Result) {
	detail := r.Detail
	if r.Subject != "" {
		detail = r.Subject + ": " + detail
	}
	if r.Status == doctor.Skip {
		detail = paint(dim, detail)
	}
	_, _ = fmt.Fprintf(w, "%s  %-13s  %s\n", paint(statusColors[r.Status], fmt.Sprintf("%-4s", r.Status)), r.Name, detail)
	if r.Remedy != "" {
		_, _ = fmt.Fprintf(w, "%21s%s %s\n", "", paint(bold, "->"), r.Remedy)
	}
}

// doctorConfig says who is to be examined.
func doctorConfig(ctx context.Context, cmd *cli.Command) (doctor.Config, error) {
	cfg := doctor.Config{Environ: os.Environ(), Only: cmd.StringSlice("upstream"), Send: cmd.Bool("send"), Watch: cmd.Duration("watch")}
	if cfg.Watch <= 0 {
		return cfg, misused(cmd, fmt.Errorf("--watch %v: want a time above 0", cfg.Watch))
	}
	function := cmd.String("function")
	if function == "" && os.Getenv("AWS_LAMBDA_FUNCTION_NAME") == "" && os.Getenv("CONSUL_MESH_GATEWAY_URI") == "" {
		return cfg, misused(cmd, errors.New("which function? Say --function NAME, or set the environment that its extension has: "+
			"AWS_LAMBDA_FUNCTION_NAME, CONSUL_MESH_GATEWAY_URI and so on"))
	}
	if function == "" && cmd.String("profile") == "" && cmd.String("region") == "" && ownCredentials() {
		return cfg, nil
	}
	account, err := loadAWS(ctx, cmd)
	if err != nil {
		return cfg, err
	}
	cfg.Borrowed = true
	credentials, err := account.Credentials.Retrieve(ctx)
	if err != nil {
		return cfg, fmt.Errorf("fetching AWS credentials: %w (have you signed in, as with aws sso login?)", err)
	}
	environ := []string{
		"AWS_REGION=" + account.Region, "AWS_ACCESS_KEY_ID=" + credentials.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + credentials.SecretAccessKey, "AWS_SESSION_TOKEN=" + credentials.SessionToken,
	}
	if function == "" {
		cfg.Environ = slices.Concat(environ, cfg.Environ) // what comes first counts
		return cfg, nil
	}
	variables, err := functionVariables(ctx, account, function)
	if err != nil {
		return cfg, err
	}
	cfg.Environ = slices.Concat(environ, variables)
	// An endpoint that stands in for AWS stands in for all of it.
	for _, name := range []string{"AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"} {
		if value := os.Getenv(name); value != "" {
			cfg.Environ = append(cfg.Environ, name+"="+value)
		}
	}
	return cfg, nil
}

// ownCredentials says whether the environment has all that the extension would find in a sandbox.
func ownCredentials() bool {
	return os.Getenv("AWS_REGION") != "" && (os.Getenv("AWS_ACCESS_KEY_ID") != "" || os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "")
}

// functionVariables reads the environment that the function is configured with, and adds what Lambda would set. A name may carry a
// qualifier, "checkout:live".
func functionVariables(ctx context.Context, account aws.Config, function string) ([]string, error) {
	client := lambda.NewFromConfig(account)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &function})
	var missing *types.ResourceNotFoundException
	switch {
	case errors.As(err, &missing):
		return nil, fmt.Errorf("AWS has no function %s in %s, for these credentials: is this its name, and is it the right --region and --profile? (%w)",
			function, account.Region, awsCause(err))
	case err != nil:
		return nil, fmt.Errorf("reading the configuration of function %s in %s: %w", function, account.Region, awsCause(err))
	}
	variables := []string{"AWS_LAMBDA_FUNCTION_NAME=" + aws.ToString(out.FunctionName), fmt.Sprintf("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=%d", aws.ToInt32(out.MemorySize))}
	if out.Environment == nil {
		return variables, nil
	}
	if e := out.Environment.Error; e != nil {
		return nil, fmt.Errorf("the environment of function %s is not shown: %s: may you use the key that encrypts it (kms:Decrypt)?", function, aws.ToString(e.ErrorCode))
	}
	for _, name := range slices.Sorted(maps.Keys(out.Environment.Variables)) {
		variables = append(variables, name+"="+out.Environment.Variables[name])
	}
	return variables, nil
}
