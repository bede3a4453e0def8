// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// scenario is a plan over a state of the predecessor's module. What excepted does not name must be kept, or changed in place.
type scenario struct {
	name     string
	vars     []string
	fresh    bool // without the state: everything is created
	excepted map[string]string
}

// gone is what an upgrade lets go in any case: a role that nothing used, and a repository that stays where it is.
var gone = map[string]string{
	"module.registrator.module.eventbridge.aws_iam_role.eventbridge[0]": "delete",
	"module.registrator.aws_ecr_repository.lambda-registrator[0]":       "forget",
}

var scenarios = []scenario{
	{name: "from nothing", vars: []string{"zip_path=main.tf"}, fresh: true},
	{
		name:     "from the predecessor, with an image",
		vars:     []string{"ecr_image_uri=123456789012.dkr.ecr.us-east-1.amazonaws.com/registrator:1"},
		excepted: gone,
	},
	{
		name: "from the predecessor, to a zip",
		vars: []string{"zip_path=main.tf"},
		// Lambda cannot turn an image into a zip, and deletes the permissions with the function.
		excepted: with(gone, map[string]string{
			"module.registrator.aws_lambda_function.registration":        "delete,create",
			"module.registrator.aws_lambda_permission.cloudtrail_invoke": "delete,create",
			"module.registrator.aws_lambda_permission.cron_invoke":       "delete,create",
		}),
	},
}

func with(a, b map[string]string) map[string]string {
	both := maps.Clone(a)
	maps.Copy(both, b)
	return both
}

// checkUpgrade makes terraform plan each scenario in a folder where it was initialised, and judges the plans.
func checkUpgrade(ctx context.Context, terraform, dir string) (complaints []string, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	sts := &http.Server{Handler: http.HandlerFunc(identify), ReadHeaderTimeout: time.Minute}
	go func() { _ = sts.Serve(listener) }() // until Close
	defer func() { _ = sts.Close() }()

	for _, s := range scenarios {
		plan, err := s.plan(ctx, terraform, dir, "http://"+listener.Addr().String())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		some, err := s.judge(plan)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		complaints = append(complaints, some...)
	}
	return complaints, nil
}

// identify answers every call as STS answers GetCallerIdentity.
func identify(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/xml")
	_, _ = w.Write([]byte(`<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>` +
		`<Arn>arn:aws:iam::123456789012:user/check</Arn><UserId>AIDA</UserId><Account>123456789012</Account>` +
		`</GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>`))
}

// plan returns a plan as JSON. Nothing is refreshed: there is no AWS to ask.
func (s scenario) plan(ctx context.Context, terraform, dir, sts string) ([]byte, error) {
	work, err := os.MkdirTemp("", "tfcheck")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	state, out := filepath.Join(work, "terraform.tfstate"), filepath.Join(work, "plan")
	args := []string{"-chdir=" + dir, "plan", "-input=false", "-refresh=false", "-lock=false", "-state=" + state, "-out=" + out, "-var=sts=" + sts}
	for _, v := range s.vars {
		args = append(args, "-var="+v)
	}
	if !s.fresh {
		old, err := os.ReadFile(filepath.Join(dir, "predecessor.json"))
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(state, old, 0o600); err != nil {
			return nil, err
		}
	}
	if _, err := command(ctx, terraform, args...); err != nil {
		return nil, err
	}
	return command(ctx, terraform, "-chdir="+dir, "show", "-json", out)
}

func command(ctx context.Context, name string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// judge says what a plan does with resources that it should not.
func (s scenario) judge(plan []byte) (complaints []string, err error) {
	var p struct {
		Changes []struct {
			Address         string `json:"address"`
			PreviousAddress string `json:"previous_address"`
			Mode            string `json:"mode"`
			Change          struct {
				Actions      []string `json:"actions"`
				ReplacePaths any      `json:"replace_paths"`
			} `json:"change"`
		} `json:"resource_changes"`
	}
	if err := json.Unmarshal(plan, &p); err != nil {
		return nil, fmt.Errorf("reading the plan: %w", err)
	}
	moved, managed := 0, 0
	met := map[string]bool{}
	for _, c := range p.Changes {
		if c.Mode != "managed" {
			continue
		}
		managed++
		if c.PreviousAddress != "" {
			moved++
		}
		actions := strings.Join(c.Change.Actions, ",")
		want, excepted := s.excepted[c.Address]
		met[c.Address] = excepted
		switch {
		case excepted && actions != want:
			complaints = append(complaints, fmt.Sprintf("%s: %s of %s, want %s", s.name, actions, c.Address, want))
		case s.fresh && actions != "create":
			complaints = append(complaints, fmt.Sprintf("%s: %s of %s, want create", s.name, actions, c.Address))
		case !excepted && (slices.Contains(c.Change.Actions, "delete") || actions == "forget"):
			complaints = append(complaints, fmt.Sprintf("%s: %s of %s because of %v, want it kept", s.name, actions, c.Address, c.Change.ReplacePaths))
		}
	}
	for address, want := range s.excepted {
		if !met[address] {
			complaints = append(complaints, fmt.Sprintf("%s: nothing happens to %s, want %s", s.name, address, want))
		}
	}
	switch {
	case managed == 0:
		complaints = append(complaints, s.name+": the plan is empty")
	case !s.fresh && moved != 4:
		complaints = append(complaints, fmt.Sprintf("%s: %d resources are moved, want two rules and two targets", s.name, moved))
	}
	slices.Sort(complaints)
	return complaints, nil
}
