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

	"github.com/zclconf/go-cty/cty"
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

func TestCallsThroughAStoreAreFoundByTheMethod(t *testing.T) {
	got := stored(slices.Values(parsed(t, `package a
func f() {
	d := documents{writer: cfg.Store.Writer(paramstore.WriterConfig{})}
	p.store.Describe(ctx, prefix, token)
	var r *paramstore.Reader
}`)))
	want := []string{"ssm:DeleteParameter", "ssm:DescribeParameters", "ssm:PutParameter"}
	if !slices.Equal(got, want) {
		t.Errorf("calls are %q, want %q: a type is no call", got, want)
	}
}

func TestACallIsOnWhatItsPackageAsksFor(t *testing.T) {
	const store = `import "github.com/consul-lambda/consul-lambda/internal/paramstore"; func f(s *paramstore.Store) `
	const client = `import "github.com/aws/aws-sdk-go-v2/service/ssm"; var in ssm.`
	s := side{on: map[string][]string{"internal/a": {"A"}, "internal/b": {"B", "C"}}, implied: []right{{"kms:Decrypt", "K"}}}
	for _, tt := range []struct {
		file, source string
		want         string // beside the implied right
		says         string // "" for nothing
	}{
		{"internal/a/a.go", store + `{ s.Reader("a"); s.Describe() }`, "ssm:DescribeParameters on * ssm:GetParameter on A", ""},
		{"internal/b/b.go", store + `{ s.Reader("b") }`, "ssm:GetParameter on B ssm:GetParameter on C", ""},
		{"internal/b/b.go", `func f() { zip.Reader("b") }`, "", ""},
		{"internal/c/c.go", store + `{ s.Reader("c") }`, "", "internal/c calls ssm:GetParameter, and tfcheck does not know on what"},
		{"internal/a/a.go", client + `PutParameterInput`, "ssm:PutParameter on A", ""},
		{"internal/paramstore/a.go", client + `PutParameterInput`, "", ""},
		{"internal/paramstore/a.go", client + `LabelParameterVersionInput`, "", "ssm:LabelParameterVersion, and tfcheck does not know through which method"},
	} {
		rights, complaints := s.needed(map[string]*ast.File{tt.file: parsed(t, "package a; "+tt.source)[0]})
		more, less := difference(map[right]bool{{"kms:Decrypt", "K"}: true}, rights)
		var got []string
		for _, r := range more {
			got = append(got, r.String())
		}
		if strings.Join(got, " ") != tt.want || len(less) > 0 {
			t.Errorf("%s: %s needs %q, without %q, want %q", tt.file, tt.source, got, less, tt.want)
		}
		if said := strings.Join(complaints, " "); tt.says == "" && said != "" || !strings.Contains(said, tt.says) {
			t.Errorf("%s: %s: says %q, want %q", tt.file, tt.source, said, tt.says)
		}
	}
}

func TestRightsAreThoseOfStatementsThatAllow(t *testing.T) {
	m := loaded(t, `
variable "x" { default = true }
variable "sns" {}
locals {
  listed     = ["ec2:CreateNetworkInterface"]
  statements = concat([
    { Effect = "Allow", Action = ["ssm:GetParameter", "kms:Decrypt"], Resource = "*" },
    { Effect = "Deny", Action = ["ssm:PutParameter"], Resource = "*", Condition = { ArnEquals = { "lambda:SourceFunctionArn" = "a" } } },
  ], [for s in [{ Effect = "Allow", Action = local.listed, Resource = local.own }] : s if var.x])
  own = ["${data.a.b}/*", aws_c.d[0].arn]
}
resource "aws_iam_role" "a" {
  assume_role_policy = jsonencode({ Statement = [{ Effect = "Allow", Action = "sts:AssumeRole" }] })
}
resource "aws_iam_policy" "a" {
  policy = jsonencode({ Statement = concat(local.statements, [{ Effect = "Allow", Action = var.sns ? "sns:Publish" : "sqs:SendMessage", Resource = "q" }]) })
}`)
	elsewhere := map[string]cty.Value{
		"data":  cty.ObjectVal(map[string]cty.Value{"a": cty.ObjectVal(map[string]cty.Value{"b": cty.StringVal("B")})}),
		"aws_c": cty.ObjectVal(map[string]cty.Value{"d": cty.TupleVal([]cty.Value{cty.ObjectVal(map[string]cty.Value{"arn": cty.StringVal("D")})})}),
	}
	got, err := m.policy(map[string]cty.Value{"sns": cty.False}, elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	want := map[right]bool{
		{"ssm:GetParameter", "*"}: true, {"kms:Decrypt", "*"}: true, {"sqs:SendMessage", "q"}: true,
		{"ec2:CreateNetworkInterface", "B/*"}: true, {"ec2:CreateNetworkInterface", "D"}: true,
	}
	if more, less := difference(want, got.rights()); len(more)+len(less) > 0 {
		t.Errorf("rights have %q too many, and lack %q", more, less)
	}
}

func TestAPolicyThatCannotBeEvaluatedIsAnError(t *testing.T) {
	const one = `resource "aws_iam_policy" "a" { policy = jsonencode({ Statement = local.a }) }` + "\n"
	for source, says := range map[string]string{
		`locals { a = [] }`:             "0 policies",
		one + one + `locals { a = [] }`: "2 policies",
		one:                             "no local.a",
		one + "locals {\n a = local.b\n b = local.a\n}": "made of itself",
		one + `locals { a = nonsense() }`:               "nonsense",
		one + `locals { a = [{ Effects = "Allow" }] }`:  "Effects",
	} {
		if _, err := loaded(t, source).policy(nil, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: the error is %v, want one that says %q", source, err, says)
		}
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
