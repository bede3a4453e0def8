// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// predecessor is the variables of hashicorp/terraform-aws-consul-lambda's lambda-registrator: a caller of it changes the source alone.
var predecessor = []string{
	"name", "consul_http_addr", "consul_datacenter", "consul_ca_cert_path", "consul_http_token_path", "consul_extension_data_prefix",
	"consul_extension_data_tier", "node_name", "enterprise", "partitions", "timeout", "reserved_concurrent_executions", "ecr_image_uri",
	"sync_frequency_in_minutes", "subnet_ids", "security_group_ids", "tags", "private_ecr_repo_name", "consul_lambda_registrator_image",
	"docker_host", "enable_auto_publish_ecr_image", "arch",
}

// Rights that no call in the code shows, and why they are there all the same.
var (
	sharedRights = map[string]string{
		"kms:Decrypt": "Parameter Store asks KMS with the caller's rights",
		// Lambda asks these of the role of a function in a VPC.
		"ec2:AssignPrivateIpAddresses": "", "ec2:CreateNetworkInterface": "", "ec2:DeleteNetworkInterface": "",
		"ec2:DescribeNetworkInterfaces": "", "ec2:DescribeSubnets": "", "ec2:UnassignPrivateIpAddresses": "",
	}
	registratorRights = map[string]string{
		"kms:Encrypt":          "as kms:Decrypt, for the Standard tier",
		"kms:GenerateDataKey":  "as kms:Decrypt, for the Advanced tier",
		"lambda:ListTags":      "GetFunction says nothing of tags without it",
		"logs:CreateLogStream": "Lambda writes the log with the function's role",
		"logs:PutLogEvents":    "as above",
		"sqs:SendMessage":      "Lambda sends what failed with the function's role",
		"sns:Publish":          "as above",
	}
	// needless is calls that need no right.
	needless = []string{"sts:GetCallerIdentity"}
)

// side is one program and the module that deploys it.
type side struct {
	module  string
	program string   // the package, from the root
	without []string // files whose calls the program does not make
	client  bool     // whether it reads the variables of Consul's client
	implied []map[string]string
}

var sides = []side{
	{
		module:  "modules/lambda-registrator",
		program: "cmd/consul-lambda-registrator",
		client:  true,
		implied: []map[string]string{sharedRights, registratorRights},
	},
	{
		module:  "modules/mesh-function",
		program: "cmd/consul-lambda-extension",
		// It has a Reader alone.
		without: []string{"internal/paramstore/write.go", "internal/paramstore/describe.go"},
		implied: []map[string]string{sharedRights},
	},
}

// checkRules holds the modules below a folder to the rules of modules, and against the code of the repository.
func checkRules(repo, terraform string) (complaints []string, err error) {
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
	client, err := consulClientNames(repo)
	if err != nil {
		return nil, err
	}
	for _, s := range sides {
		m := modules[s.module]
		if m == nil {
			complaints = append(complaints, s.module+": is not there")
			continue
		}
		some, err := s.check(repo, m, client)
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
func (s side) check(repo string, m *module, client []string) (complaints []string, err error) {
	complain := func(format string, args ...any) {
		complaints = append(complaints, s.module+": "+fmt.Sprintf(format, args...))
	}
	if sources, _ := filepath.Glob(filepath.Join(repo, s.program, "*.go")); len(sources) == 0 {
		complain("%s is not there to be compared with", s.program)
		return complaints, nil
	}
	files, err := program(repo, s.program)
	if err != nil {
		return nil, err
	}
	callers := maps.Clone(files)
	for _, name := range s.without {
		delete(callers, name)
	}
	made, unknown := calls(maps.Values(callers))
	complaints = append(complaints, unknown...)
	allowed := m.actions()
	for _, call := range made {
		if !slices.Contains(allowed, call) && !slices.Contains(needless, call) {
			complain("the code calls %s, and the policy does not allow it", call)
		}
	}
	for _, right := range allowed {
		implied := slices.ContainsFunc(s.implied, func(rights map[string]string) bool { _, ok := rights[right]; return ok })
		if !slices.Contains(made, right) && !implied {
			complain("the policy allows %s, and the code does not call it", right)
		}
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
