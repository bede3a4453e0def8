// SPDX-License-Identifier: MPL-2.0

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func parsed(t testing.TB, source string) []*ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "a.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return []*ast.File{file}
}

func TestEveryCallOfTheSDKIsFoundByItsInput(t *testing.T) {
	got, complaints := calls(slices.Values(parsed(t, `package a
import (
	params "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	tagging "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
)
func f() {
	c.GetParameter(ctx, &params.GetParameterInput{})
	in := new(params.PutParameterInput)
	p := lambda.NewListFunctionsPaginator(c, nil)
	var t types.FunctionInput
	c.GetResources(ctx, &tagging.GetResourcesInput{}, func(o *tagging.Options) {})
	other.DeleteParameterInput()
}`)))
	want := []string{"lambda:ListFunctions", "ssm:GetParameter", "ssm:PutParameter", "tag:GetResources"}
	if !slices.Equal(got, want) || len(complaints) > 0 {
		t.Errorf("calls are %q, complaints %q, want %q and none", got, complaints, want)
	}
}

func TestAServiceThatIsNotKnownIsAComplaint(t *testing.T) {
	_, complaints := calls(slices.Values(parsed(t, `package a; import _ "github.com/aws/aws-sdk-go-v2/service/s3"`)))
	if len(complaints) != 1 || !strings.Contains(complaints[0], "service/s3") {
		t.Errorf("complaints are %q, want one about S3", complaints)
	}
}

func TestEnvironmentNamesAreWholeLiteralsAndTheirSums(t *testing.T) {
	got := environmentNames(slices.Values(parsed(t, `package a
const prefix = "CONSUL_EXTENSION_"
var a, b, c, d = "NODE_NAME", "CONSUL_LAMBDA_"+"POLICY", "set CONSUL_NOT_THIS", "AWS_REGION"
`)))
	if want := []string{"CONSUL_LAMBDA_POLICY", "NODE_NAME"}; !slices.Equal(got, want) {
		t.Errorf("names are %q, want %q", got, want)
	}
}

func loaded(t testing.TB, source string) *module {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestActionsAreThoseOfStatementsThatAllow(t *testing.T) {
	m := loaded(t, `
locals {
  listed     = ["ec2:CreateNetworkInterface"]
  statements = concat([
    { Effect = "Allow", Action = ["ssm:GetParameter", "kms:Decrypt"], Resource = "*" },
    { Effect = "Deny", Action = ["ssm:PutParameter"], Resource = "*", Condition = { ArnEquals = { "lambda:SourceFunctionArn" = "a" } } },
  ], [for s in [{ Effect = "Allow", Action = local.listed }] : s if var.x])
}
resource "aws_iam_role" "a" {
  assume_role_policy = jsonencode({ Statement = [{ Effect = "Allow", Action = "sts:AssumeRole" }] })
}
resource "aws_iam_policy" "a" {
  policy = jsonencode({ Statement = [{ Effect = "Allow", Action = [var.sns ? "sns:Publish" : "sqs:SendMessage"] }] })
}`)
	want := []string{"ec2:CreateNetworkInterface", "kms:Decrypt", "sns:Publish", "sqs:SendMessage", "ssm:GetParameter"}
	if got := m.actions(); !slices.Equal(got, want) {
		t.Errorf("actions are %q, want %q", got, want)
	}
}

func TestATableHasRequiredVariablesFirstAndOneLineForEach(t *testing.T) {
	got := tables(loaded(t, `
variable "b" {
  description = "This | that."
  type        = object({
    x = optional(string)
    y = number
  })
  default = null
}
variable "a" {
  description = "Needed."
  type        = list(string)
}
output "o" {
  description = "Out."
  value       = 1
}`))
	want := "| variable | type | default | meaning |\n|---|---|---|---|\n" +
		"| `a` | `list(string)` | required | Needed. |\n" +
		"| `b` | `object({x = optional(string), y = number})` | `null` | This \\| that. |\n" +
		"\n| output | meaning |\n|---|---|\n| `o` | Out. |\n"
	if got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
}
