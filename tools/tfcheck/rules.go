// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// predecessor is the variables of hashicorp/terraform-aws-consul-lambda's lambda-registrator: a caller of it changes the source alone.
var predecessor = []string{
	"name", "consul_http_addr", "consul_datacenter", "consul_ca_cert_path", "consul_http_token_path", "consul_extension_data_prefix",
	"consul_extension_data_tier", "node_name", "enterprise", "partitions", "timeout", "reserved_concurrent_executions", "ecr_image_uri",
	"sync_frequency_in_minutes", "subnet_ids", "security_group_ids", "tags", "private_ecr_repo_name", "consul_lambda_registrator_image",
	"docker_host", "enable_auto_publish_ecr_image", "arch",
}

// What the policies are compared for: docs/security.md has these names in place of what differs from one account to another.
const (
	documentsKey  = "arn:aws:kms:REGION:ACCOUNT:key/DOCUMENTS_KEY"
	secretsKey    = "arn:aws:kms:REGION:ACCOUNT:key/SECRETS_KEY"
	allDocuments  = "arn:aws:ssm:REGION:ACCOUNT:parameter/PREFIX/*"
	ownDocument   = "arn:aws:ssm:REGION:ACCOUNT:parameter/PREFIX/default/default/FUNCTION"
	caCertificate = "arn:aws:ssm:REGION:ACCOUNT:parameter/CA_CERTIFICATE"
	consulToken   = "arn:aws:ssm:REGION:ACCOUNT:parameter/TOKEN"
	everyFunction = "arn:aws:lambda:REGION:ACCOUNT:function:*"
	logGroup      = "arn:aws:logs:REGION:ACCOUNT:log-group:LOG_GROUP"
	failures      = "arn:aws:sqs:REGION:ACCOUNT:FAILURES"
	everything    = "*"

	// account is what AWS tells a module.
	account = `{
		"aws_partition":       {"current": {"partition": "aws", "dns_suffix": "amazonaws.com"}},
		"aws_region":          {"current": {"id": "REGION"}},
		"aws_caller_identity": {"current": {"account_id": "ACCOUNT"}}
	}`

	page = "docs/security.md"
)

var (
	// wide is the calls for which AWS knows no resource.
	wide = []string{"lambda:ListFunctions", "tag:GetResources", "ssm:DescribeParameters"}
	// needless is calls that need no right.
	needless = []string{"sts:GetCallerIdentity"}
	// network is what Lambda asks of the role of a function in a VPC.
	network = []right{
		{"ec2:AssignPrivateIpAddresses", everything}, {"ec2:CreateNetworkInterface", everything}, {"ec2:DeleteNetworkInterface", everything},
		{"ec2:DescribeNetworkInterfaces", everything}, {"ec2:DescribeSubnets", everything}, {"ec2:UnassignPrivateIpAddresses", everything},
	}
)

// side is one program and the module that deploys it.
type side struct {
	module  string
	program string // the package, from the root
	client  bool   // whether it reads the variables of Consul's client

	// on is what the calls of a package are on, but for wide ones. It is for the reader to judge: what it says is held against the policy.
	on map[string][]string
	// implied is the rights that no call in the code shows.
	implied []right

	// What the policy is evaluated with, as JSON: variables, then those of a VPC, then resources.
	variables, vpc string
	resources      map[string]string
	// heading is above the policy, without a VPC, in docs/security.md.
	heading string
}

var sides = []side{
	{
		module:  "modules/lambda-registrator",
		program: "cmd/consul-lambda-registrator",
		client:  true,
		on: map[string][]string{
			"internal/lambdaapi": {everyFunction},
			"internal/documents": {allDocuments},
			"internal/assemble":  {consulToken, caCertificate},
		},
		implied: slices.Concat(network, []right{
			// Parameter Store asks KMS with the caller's rights: where it reads, and where it writes to the Standard and to the Advanced tier.
			{"kms:Decrypt", secretsKey},
			{"kms:Encrypt", documentsKey},
			{"kms:GenerateDataKey", documentsKey},
			// GetFunction says nothing of tags without it.
			{"lambda:ListTags", everyFunction},
			// Lambda writes the log, and sends what failed, with the function's role.
			{"logs:CreateLogStream", logGroup + ":*"},
			{"logs:PutLogEvents", logGroup + ":*"},
			{"sqs:SendMessage", failures},
		}),
		variables: `{
			"name": "REGISTRATOR", "consul_extension_data_prefix": "/PREFIX", "kms_key_arn": "` + documentsKey + `",
			"consul_ca_cert_path": "/CA_CERTIFICATE", "consul_http_token_path": "/TOKEN", "consul_secrets_kms_key_arns": ["` + secretsKey + `"]
		}`,
		vpc: `{"subnet_ids": ["SUBNET"], "security_group_ids": ["GROUP"]}`,
		resources: map[string]string{
			"aws_cloudwatch_log_group": `{"registration": {"arn": "` + logGroup + `"}}`,
			"aws_sqs_queue":            `{"failures": [{"arn": "` + failures + `"}]}`,
		},
		heading: "### The registrator's role",
	},
	{
		module:  "modules/mesh-function",
		program: "cmd/consul-lambda-extension",
		on:      map[string][]string{"cmd/consul-lambda-extension": {ownDocument}},
		implied: slices.Concat(network, []right{{"kms:Decrypt", documentsKey}}), // as above
		variables: `{
			"function_name": "FUNCTION", "data_prefix": "/PREFIX", "namespace": "default", "partition": "default", "kms_key_arn": "` + documentsKey + `"
		}`,
		vpc:     `{"vpc": {"id": "VPC", "subnet_ids": ["SUBNET"], "mesh_gateway_cidrs": [], "create_ssm_endpoint": true}}`,
		heading: "### A function's role",
	},
}

// checkRules holds the modules below a folder to the rules of modules, and against the code of the repository.
func checkRules(ctx context.Context, repo, terraform string) (complaints []string, err error) {
	dirs, err := filepath.Glob(filepath.Join(terraform, "modules", "*"))
	if err != nil || len(dirs) == 0 {
		return nil, fmt.Errorf("no modules below %s: %w", terraform, err)
	}
	modules := map[string]*module{}
	for _, dir := range dirs {
		m, err := load(dir)
		if err != nil {
			return nil, err
		}
		name := "modules/" + filepath.Base(dir)
		modules[name] = m
		some, err := moduleRules(name, m)
		if err != nil {
			return nil, err
		}
		complaints = append(complaints, some...)
	}
	client, err := consulClientNames(ctx, repo)
	if err != nil {
		return nil, err
	}
	for _, s := range sides {
		m := modules[s.module]
		if m == nil {
			complaints = append(complaints, s.module+": is not there")
			continue
		}
		some, err := s.check(ctx, repo, m, client)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.module, err)
		}
		complaints = append(complaints, some...)
	}
	return complaints, nil
}

var fixedPartition = regexp.MustCompile(`arn:aws[a-z-]*:`)

// moduleRules are the rules of every module.
func moduleRules(name string, m *module) (complaints []string, err error) {
	for _, provider := range m.providers {
		complaints = append(complaints, fmt.Sprintf("%s: configures the provider %s: that is its caller's, and keeps a module from being removed", name, provider))
	}
	for file, source := range m.sources {
		if at := fixedPartition.Find(source); at != nil {
			complaints = append(complaints, fmt.Sprintf("%s: %s has %s: the partition comes from data.aws_partition", name, filepath.Base(file), at))
		}
	}
	tests, err := filepath.Glob(filepath.Join(m.dir, "tests", "*.tftest.hcl"))
	if err != nil {
		return nil, err
	}
	var tested strings.Builder
	for _, test := range tests {
		content, err := os.ReadFile(test)
		if err != nil {
			return nil, err
		}
		tested.Write(content)
	}
	for _, v := range m.variables {
		set := regexp.MustCompile(`(?m)^\s*` + v.name + `\s*=`)
		if !set.MatchString(tested.String()) {
			complaints = append(complaints, fmt.Sprintf("%s: no test sets %s", name, v.name))
		}
	}
	if name == "modules/lambda-registrator" {
		for _, old := range predecessor {
			if !slices.ContainsFunc(m.variables, func(v variable) bool { return v.name == old }) {
				complaints = append(complaints, fmt.Sprintf("%s: has no %s, which callers of the predecessor set", name, old))
			}
		}
	}
	slices.Sort(complaints)
	return complaints, nil
}

// check holds one module against its program, in both directions.
func (s side) check(ctx context.Context, repo string, m *module, client []string) (complaints []string, err error) {
	complain := func(format string, args ...any) {
		complaints = append(complaints, s.module+": "+fmt.Sprintf(format, args...))
	}
	if sources, _ := filepath.Glob(filepath.Join(repo, s.program, "*.go")); len(sources) == 0 {
		complain("%s is not there to be compared with", s.program)
		return complaints, nil
	}
	files, err := program(ctx, repo, s.program)
	if err != nil {
		return nil, err
	}
	needed, unknown := s.needed(files)
	slices.Sort(unknown)
	complaints = append(complaints, unknown...)
	allowed, err := s.policy(m, true)
	if err != nil {
		return nil, err
	}
	more, less := difference(needed, allowed.rights())
	for _, r := range less {
		complain("the code calls %s, and the policy does not allow it", r)
	}
	for _, r := range more {
		complain("the policy allows %s, and the code does not call it", r)
	}
	if some, err := s.printed(repo, m); err != nil {
		return nil, err
	} else if some != "" {
		complain("%s", some)
	}

	set, err := m.environment()
	if err != nil {
		return nil, err
	}
	read := environmentNames(maps.Values(files))
	for _, name := range set {
		if !slices.Contains(read, name) && !(s.client && slices.Contains(client, name)) {
			complain("sets %s, which the code does not read", name)
		}
	}
	for _, name := range read {
		if !slices.Contains(set, name) && !(s.client && slices.Contains(client, name)) {
			complain("does not set %s, which the code reads", name)
		}
	}
	return complaints, nil
}

// needed is the rights that the calls in the files of the program need, and the implied ones.
func (s side) needed(files map[string]*ast.File) (rights map[right]bool, complaints []string) {
	rights = map[right]bool{}
	for _, r := range s.implied {
		rights[r] = true
	}
	folders := map[string][]*ast.File{}
	for name, file := range files {
		folders[path.Dir(name)] = append(folders[path.Dir(name)], file)
	}
	for folder, files := range folders {
		made, unknown := calls(slices.Values(files))
		complaints = append(complaints, unknown...)
		if folder == paramstore {
			for _, call := range made {
				if !slices.ContainsFunc(slices.Collect(maps.Values(through)), func(actions []string) bool { return slices.Contains(actions, call) }) {
					complaints = append(complaints, fmt.Sprintf("%s calls %s, and tfcheck does not know through which method", folder, call))
				}
			}
			continue // it calls for others
		}
		if slices.ContainsFunc(files, func(f *ast.File) bool { return imports(f, paramstore) }) {
			made = append(made, stored(slices.Values(files))...)
		}
		for _, call := range made {
			on := s.on[folder]
			switch {
			case slices.Contains(needless, call):
				continue
			case slices.Contains(wide, call):
				on = []string{everything}
			case len(on) == 0:
				complaints = append(complaints, fmt.Sprintf("%s calls %s, and tfcheck does not know on what", folder, call))
			}
			for _, resource := range on {
				rights[right{call, resource}] = true
			}
		}
	}
	return rights, complaints
}

// policy is the module's policy, with every statement, or with all but those of a VPC.
func (s side) policy(m *module, inVPC bool) (policy, error) {
	texts := []string{s.variables}
	if inVPC {
		texts = append(texts, s.vpc)
	}
	variables := map[string]cty.Value{}
	for _, text := range texts {
		value, err := fromJSON(text)
		if err != nil {
			return policy{}, err
		}
		maps.Copy(variables, value.AsValueMap())
	}
	elsewhere := map[string]cty.Value{}
	for name, text := range s.resources {
		value, err := fromJSON(text)
		if err != nil {
			return policy{}, err
		}
		elsewhere[name] = value
	}
	data, err := fromJSON(account)
	if err != nil {
		return policy{}, err
	}
	elsewhere["data"] = data
	return m.policy(variables, elsewhere)
}

func fromJSON(text string) (cty.Value, error) {
	t, err := ctyjson.ImpliedType([]byte(text))
	if err != nil {
		return cty.NilVal, fmt.Errorf("reading %s: %w", text, err)
	}
	return ctyjson.Unmarshal([]byte(text), t)
}

// printed says what is wrong with the copy of the policy in docs/security.md, for those who have no Terraform; "" for nothing.
func (s side) printed(repo string, m *module) (complaint string, err error) {
	want, err := s.policy(m, false)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(repo, page))
	if err != nil {
		return "", err
	}
	_, after, ok := strings.Cut(string(text), "\n"+s.heading+"\n")
	_, after, ok2 := strings.Cut(after, "\n```json\n")
	block, _, ok3 := strings.Cut(after, "\n```\n")
	if !ok || !ok2 || !ok3 {
		return fmt.Sprintf("%s has no policy below %q", page, s.heading), nil
	}
	have, err := parsePolicy(block)
	if err != nil {
		return fmt.Sprintf("%s, below %q: %v", page, s.heading, err), nil
	}
	if !reflect.DeepEqual(have, want) {
		return fmt.Sprintf("%s has another policy below %q: want %s", page, s.heading, want), nil
	}
	return "", nil
}
