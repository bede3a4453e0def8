// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// policy is an IAM policy: all of one, as a field of the JSON that is not here is an error.
type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid, Effect      string
	Action, Resource words
	Condition        map[string]map[string]words `json:",omitempty"`
}

// words are one string, or a list of them: IAM does not tell them apart.
type words []string

// UnmarshalJSON takes either form.
func (w *words) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(w))
}

func parsePolicy(text string) (p policy, err error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return p, fmt.Errorf("reading a policy: %w", err)
	}
	return p, nil
}

func (p policy) String() string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(p); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// right is an action, and the ARN or pattern that it is on.
type right struct{ action, on string }

func (r right) String() string { return r.action + " on " + r.on }

// rights is what the statements allow.
func (p policy) rights() map[right]bool {
	allowed := map[right]bool{}
	for _, s := range p.Statement {
		if s.Effect != "Allow" {
			continue
		}
		for _, action := range s.Action {
			for _, resource := range s.Resource {
				allowed[right{action, resource}] = true
			}
		}
	}
	return allowed
}

// policy evaluates the one policy that the module gives to a role. given is the values of variables, where they are not the defaults,
// and elsewhere what else the expressions name: data sources and resources.
func (m *module) policy(given, elsewhere map[string]cty.Value) (policy, error) {
	var found []*hclsyntax.Attribute
	for _, body := range m.bodies {
		for _, block := range body.Blocks {
			if block.Type == "resource" && (block.Labels[0] == "aws_iam_policy" || block.Labels[0] == "aws_iam_role_policy") {
				found = append(found, block.Body.Attributes["policy"])
			}
		}
	}
	if len(found) != 1 || found[0] == nil {
		return policy{}, fmt.Errorf("%s has %d policies of roles: one is what is known of", m.dir, len(found))
	}
	variables := map[string]cty.Value{}
	for _, v := range m.variables {
		if v.value == nil {
			continue
		}
		value, diags := v.value.Value(nil)
		if diags.HasErrors() {
			return policy{}, fmt.Errorf("evaluating the default of %s: %w", v.name, diags)
		}
		variables[v.name] = value
	}
	maps.Copy(variables, given)
	e := evaluator{m: m, known: map[string]cty.Value{"var": cty.ObjectVal(variables)}, locals: map[string]cty.Value{}}
	maps.Copy(e.known, elsewhere)
	value, err := e.value(found[0].Expr)
	if err != nil {
		return policy{}, fmt.Errorf("evaluating the policy of %s: %w", m.dir, err)
	}
	if value.Type() != cty.String || !value.IsWhollyKnown() {
		return policy{}, fmt.Errorf("the policy of %s is %s, want a string that is known", m.dir, value.Type().FriendlyName())
	}
	return parsePolicy(value.AsString())
}

// evaluator evaluates expressions of a module. It has as many of Terraform's functions as policies need.
type evaluator struct {
	m      *module
	known  map[string]cty.Value // var, data, types of resources
	locals map[string]cty.Value // those evaluated so far; NilVal: being evaluated
}

var functions = map[string]function.Function{
	"coalesce":   stdlib.CoalesceFunc, // of what is not null, while Terraform's passes over empty strings too
	"concat":     stdlib.ConcatFunc,
	"distinct":   stdlib.DistinctFunc,
	"jsonencode": stdlib.JSONEncodeFunc,
	"length":     stdlib.LengthFunc,
	"trimprefix": stdlib.TrimPrefixFunc,
	"trimsuffix": stdlib.TrimSuffixFunc,
}

func (e *evaluator) value(expr hclsyntax.Expression) (cty.Value, error) {
	for _, named := range expr.Variables() {
		if named.RootName() != "local" || len(named) < 2 {
			continue
		}
		attr, ok := named[1].(hcl.TraverseAttr)
		if !ok {
			continue
		}
		if value, seen := e.locals[attr.Name]; seen {
			if value == cty.NilVal {
				return cty.NilVal, fmt.Errorf("local.%s is made of itself", attr.Name)
			}
			continue
		}
		local, ok := e.m.locals[attr.Name]
		if !ok {
			return cty.NilVal, fmt.Errorf("there is no local.%s", attr.Name)
		}
		e.locals[attr.Name] = cty.NilVal
		value, err := e.value(local)
		if err != nil {
			return cty.NilVal, err
		}
		e.locals[attr.Name] = value
	}
	done := maps.Clone(e.locals)
	maps.DeleteFunc(done, func(_ string, value cty.Value) bool { return value == cty.NilVal })
	variables := maps.Clone(e.known)
	variables["local"] = cty.ObjectVal(done)
	value, diags := expr.Value(&hcl.EvalContext{Variables: variables, Functions: functions})
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	return value, nil
}

// difference is what b has and a has not, and the other way round.
func difference(a, b map[right]bool) (more, less []right) {
	for r := range b {
		if !a[r] {
			more = append(more, r)
		}
	}
	for r := range a {
		if !b[r] {
			less = append(less, r)
		}
	}
	order := func(x, y right) int { return strings.Compare(x.String(), y.String()) }
	slices.SortFunc(more, order)
	slices.SortFunc(less, order)
	return more, less
}
