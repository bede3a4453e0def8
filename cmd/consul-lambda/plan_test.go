// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/consul-lambda/consul-lambda/registrator"
)

// A plan that failed says nothing of the state: least of all that there is nothing to change.
func TestAPlanThatFailedDoesNotSayThatNothingIsToChange(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := statedPlan{Plan: registrator.Plan{Failures: []registrator.Note{{Name: "functions", Text: "could not be listed"}}}}
	p.print(&out, painterFor(&out))
	if s := out.String(); strings.Contains(s, "Nothing to change") || !strings.Contains(s, "The plan is incomplete") {
		t.Error(s)
	}
	out.Reset()
	p.Changes = []registrator.Change{{Kind: registrator.Create, Name: "web"}}
	p.print(&out, painterFor(&out))
	if s := out.String(); !strings.Contains(s, "The plan is incomplete") || !strings.Contains(s, "1 to create") {
		t.Error(s)
	}
}

func TestAFailedListingIsNoPlan(t *testing.T) {
	s := newTestSite(t)
	for name, value := range s.env {
		t.Setenv(name, value)
	}
	s.aws.Deny("tag:GetResources", "lambda:ListFunctions")
	code, stdout, stderr := command(t, "plan")
	if code != 1 || strings.Contains(stdout, "Nothing to change") || !strings.Contains(stdout+stderr, "lambda:ListFunctions") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}
