// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root is the repository, from this folder.
const root = "../.."

// seed is a mistake: in one file, the first of two texts becomes the second.
type seed struct {
	step     string // of check.sh that must find it
	mistake  string
	file     string // below deploy/terraform
	from, to string
	says     string // in what the step prints
}

const registrator = "modules/lambda-registrator/"

var seeds = []seed{
	{"format", "an indentation", registrator + "main.tf", "\n  function_name ", "\n   function_name ", "main.tf"},

	{"validate", "an argument that the provider does not have", registrator + "events.tf", "event_pattern       =", "event_patern        =", "event_patern"},
	{"validate", "a value that the provider refuses", "modules/mesh-function/network.tf", `"Interface"`, `"Interfaces"`, "vpc_endpoint_type"},
	{"validate", "a module without an argument", "examples/lambda-to-mesh/main.tf", `layer_arn         = module.layer.layer_arns["x86_64"]`, "", "layer_arn"},

	{"test", "a right too many", registrator + "iam.tf", `"lambda:ListTags"]`, `"lambda:ListTags", "lambda:DeleteFunction"]`, "the_policy_without_documents_and_secrets"},
	{"test", "a right on everything", registrator + "iam.tf", "Resource = local.document_arn", `Resource = "*"`, "the_policy_with_everything"},
	{"test", "a key without its condition", registrator + "iam.tf", `StringLike   = {`, `StringLike   = true ? {} : {`, "the_policy_with_everything"},
	{"test", "an event that is not watched", registrator + "events.tf", `"DeleteFunction", `, "", "events_and_schedule"},
	{"test", "silence that is no alarm", registrator + "alarms.tf", `missing     = "breaching"`, `missing     = "notBreaching"`, `run "alarms"`},
	{"test", "a default that means something else", registrator + "variables.tf", "default     = -1", "default     = 1", "only_its_defaults_hold"},
	{"test", "a variable without effect", registrator + "main.tf", "DATACENTER                   = var.consul_datacenter", "", "everything_reaches_the_function"},
	{"test", "the parameters of all functions", "modules/mesh-function/main.tf", "/${var.function_name}\"\n  parameter_arn", "/*\"\n  parameter_arn", "the_least_that_a_function_needs"},
	{"test", "a VPC without a way to Parameter Store", "modules/mesh-function/variables.tf", "var.vpc.create_ssm_endpoint != null", "true", "the_way_to_parameter_store_must_be_said"},
	{"test", "two prefixes", "examples/lambda-to-mesh/main.tf", "data_prefix       = module.registrator.data_prefix", `data_prefix       = "/else"`, "finds_what_the_registrator_writes"},

	{"upgrade", "an upgrade that replaces the policy", registrator + "iam.tf", "policy for consul registration", "policy of consul registration", "aws_iam_policy.policy"},
	{"upgrade", "an upgrade that replaces the rules", registrator + "moved.tf", "module.eventbridge.aws_cloudwatch_event_rule.this", "module.eventbridge.aws_cloudwatch_event_rule.that", "aws_cloudwatch_event_rule.this"},
	{"upgrade", "an upgrade that deletes images", registrator + "moved.tf", "destroy = false", "destroy = true", "aws_ecr_repository"},
	{"upgrade", "an upgrade that leaves the function without events", registrator + "events.tf", "replace_triggered_by = [aws_lambda_function.registration.arn]", "", "aws_lambda_permission"},

	{"lint", "a variable that nothing uses", registrator + "variables.tf", "variable \"name\" {", "variable \"unused\" {\n  description = \"Nothing.\"\n  type = string\n  default = \"\"\n}\n\nvariable \"name\" {", "unused"},
	{"lint", "a variable without a type", registrator + "variables.tf", "  type        = string\n", "", "terraform_typed_variables"},

	{"docs", "a default that the table does not have", registrator + "variables.tf", "default     = 300", "default     = 30", "its tables are not those"},
	{"docs", "a variable without a description", "modules/consul-lambda-layer/variables.tf", "  description = \"What the layers' names", "  # \"What the layers' names", "name has no description"},

	{"rules", "a variable that the extension does not read", "modules/mesh-function/main.tf", "CONSUL_EXTENSION_STRICT ", "CONSUL_EXTENSION_STRICKT", "sets CONSUL_EXTENSION_STRICKT"},
	{"rules", "a variable that nobody can set", "modules/mesh-function/main.tf", "    TRACE_ENABLED                       = var.settings.trace_enabled\n", "", "does not set TRACE_ENABLED"},
	{"rules", "a variable that the registrator does not read", registrator + "main.tf", "CONSUL_LAMBDA_POLICY ", "CONSUL_LAMBDA_POLITE ", "sets CONSUL_LAMBDA_POLITE"},
	{"rules", "a call that is not allowed", registrator + "iam.tf", `, "tag:GetResources"`, "", "calls tag:GetResources"},
	{"rules", "a right that is not used", "modules/mesh-function/main.tf", `["ssm:GetParameter"]`, `["ssm:GetParameter", "ssm:PutParameter"]`, "allows ssm:PutParameter"},
	{"rules", "documents that can be read", registrator + "iam.tf", `["ssm:PutParameter", `, `["ssm:GetParameter", "ssm:PutParameter", `, "allows ssm:GetParameter on arn:aws:ssm:REGION:ACCOUNT:parameter/PREFIX/*"},
	{"rules", "documents that can be decrypted", registrator + "iam.tf", `"kms:GenerateDataKey"]`, `"kms:GenerateDataKey", "kms:Decrypt"]`, "allows kms:Decrypt on arn:aws:kms:REGION:ACCOUNT:key/DOCUMENTS_KEY"},
	{"rules", "a right on the wrong thing", registrator + "iam.tf", "Resource = local.secret_arns", "Resource = local.document_arn", "calls ssm:GetParameter on arn:aws:ssm:REGION:ACCOUNT:parameter/TOKEN"},
	{"rules", "the documents of all functions", "modules/mesh-function/main.tf", "Resource = local.parameter_arn", `Resource = "${local.parameter_arn}*"`, "calls ssm:GetParameter on arn:aws:ssm:REGION:ACCOUNT:parameter/PREFIX/default/default/FUNCTION, and the policy does not allow it"},
	{"rules", "a condition that docs/security.md does not have", registrator + "iam.tf", `StringLike   = { "kms:EncryptionContext:PARAMETER_ARN" = local.document_arn }`, "", `docs/security.md has another policy below "### The registrator's role"`},
	{"rules", "a provider in a module", registrator + "versions.tf", "terraform {", "provider \"aws\" {}\n\nterraform {", "configures the provider aws"},
	{"rules", "a partition in an ARN", registrator + "iam.tf", `"arn:${local.partition}:lambda:`, `"arn:aws:lambda:`, "has arn:aws:"},
	{"rules", "a variable of the predecessor that is gone", registrator + "variables.tf", `variable "docker_host"`, `variable "docker_socket"`, "has no docker_host"},
	{"rules", "a variable without a test", "modules/consul-lambda-layer/tests/contract.tftest.hcl", "    keep_old_versions = true\n", "", "no test sets keep_old_versions"},
}

// Each check is shown a mistake that it is there for: with it the step fails and names it. That it passes without is what
// make deploy-check shows.
func TestEveryStepFindsItsSeededMistakes(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts terraform for each mistake")
	}
	tfcheck := filepath.Join(t.TempDir(), "tfcheck")
	if out, err := exec.Command("go", "build", "-o", tfcheck, ".").CombinedOutput(); err != nil {
		t.Fatalf("building tfcheck: %v\n%s", err, out)
	}
	for _, s := range seeds {
		t.Run(s.step+"/"+s.mistake, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "deploy/terraform"))); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, s.file)
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			seeded := bytes.Replace(content, []byte(s.from), []byte(s.to), 1)
			if bytes.Equal(seeded, content) {
				t.Fatalf("%s has no %q", s.file, s.from)
			}
			if err := os.WriteFile(name, seeded, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := runStep(t, dir, tfcheck, s)
			if err == nil {
				t.Errorf("%s passes", s.step)
			}
			// Terraform wraps what it says.
			if !strings.Contains(strings.Join(strings.Fields(out), " "), s.says) {
				t.Errorf("%s does not say %q:\n%s", s.step, s.says, out)
			}
		})
	}
}

// runStep runs a step of the check.sh in dir, on the module or example that was changed alone.
func runStep(t testing.TB, dir, tfcheck string, s seed) (string, error) {
	t.Helper()
	repo, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	unit := strings.Join(strings.Split(s.file, "/")[:2], "/")
	if s.step == "rules" {
		unit = ""
	}
	cmd := exec.Command(filepath.Join(dir, "check.sh"), s.step)
	cmd.Env = append(os.Environ(), "REPO="+repo, "UNITS="+unit, "TFCHECK="+tfcheck,
		"TFLINT="+cmp.Or(os.Getenv("TFLINT"), filepath.Join(repo, "bin", "tflint")))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestAMissingProviderFails(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts terraform")
	}
	repo, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(repo, "deploy/terraform/check.sh"), "validate")
	cmd.Env = append(os.Environ(), "TF_PLUGIN_DIR="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("without a provider validate passes:\n%s", out)
	}
}
