// SPDX-License-Identifier: MPL-2.0

package ssmsim

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

var nameSyntax = regexp.MustCompile(`^[a-zA-Z0-9_.\-/]+$`)

// checkName applies the rules for a new parameter's name.
func (s *Server) checkName(name string) *awswire.Failure {
	switch first := strings.ToLower(strings.TrimPrefix(name, "/")); {
	case !nameSyntax.MatchString(name) || strings.HasSuffix(name, "/") || strings.Contains(name, "//"):
		return invalid("Parameter name must only contain a-zA-Z0-9_.-/ and each level must be named.")
	case strings.Contains(name, "/") && !strings.HasPrefix(name, "/"):
		return invalid("Parameter name must be a fully qualified name.")
	case strings.HasPrefix(first, "aws") || strings.HasPrefix(first, "ssm"):
		return invalid(`Parameter name: can't be prefixed with "aws" or "ssm" (case-insensitive).`)
	case strings.Count(name, "/") > maxLevels:
		return ssmFailure("HierarchyLevelLimitExceededException", fmt.Sprintf("A hierarchy can have a maximum of %d levels.", maxLevels))
	case len(s.arn(name)) > maxNameAndARN:
		return invalid("Parameter name is too long: with its ARN it may have %d characters.", maxNameAndARN)
	}
	return nil
}

func (s *Server) putParameter(in *input) (any, *awswire.Failure) {
	name := strings.TrimSpace(in.Name)
	if f := s.checkName(name); f != nil {
		return nil, f
	}
	if in.Value == nil || *in.Value == "" {
		return nil, invalid("1 validation error detected: Value at 'value' failed to satisfy constraint: Member must have length greater than or equal to 1")
	}
	v := Parameter{Name: name, Value: *in.Value, Type: in.Type, KeyID: in.KeyID, Description: in.Description}
	var old Parameter
	if p := s.params[name]; p != nil {
		if !in.Overwrite {
			return nil, ssmFailure("ParameterAlreadyExists",
				"The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
		}
		old = p.newest()
		v.Type = cmp.Or(v.Type, old.Type)
		if v.Type != old.Type {
			return nil, ssmFailure("HierarchyTypeMismatchException",
				"Parameter Store does not support changing a parameter type.")
		}
	}
	switch v.Type {
	case "String", "StringList":
		v.KeyID = ""
	case "SecureString":
		v.KeyID = cmp.Or(v.KeyID, "alias/aws/ssm")
	case "":
		return nil, invalid("A parameter type is required when you create a parameter.")
	default:
		return nil, ssmFailure("UnsupportedParameterType", "The parameter type is not supported.")
	}
	if strings.Contains(v.Value, "{{") && strings.Contains(v.Value, "}}") {
		return nil, invalid("Parameter value can't nest another parameter.")
	}
	var f *awswire.Failure
	if v.Tier, f = s.tier(in.Tier, v, old); f != nil {
		return nil, f
	}
	return struct {
		Tier    string
		Version int64
	}{v.Tier, s.store(v)}, nil
}

// tier decides which tier the new version has. A request without one is taken
// for the account's default, Standard, but what is Advanced already stays so:
// that AWS refuses such a write is documented only for an explicit Standard.
func (s *Server) tier(asked string, v, old Parameter) (string, *awswire.Failure) {
	tier := asked
	switch asked {
	case "":
		tier = cmp.Or(old.Tier, tierStandard)
	case tierIntelligent:
		tier = s.intelligentTier(v.Name, v.Value)
	case tierStandard:
		if old.Tier == tierAdvanced {
			return "", invalid("This parameter uses the advanced-parameter tier. You can't downgrade a parameter from the advanced-parameter tier to the standard-parameter tier. If necessary, you can delete the advanced parameter and recreate it as a standard parameter.")
		}
	case tierAdvanced:
	default:
		return "", invalid("1 validation error detected: Value at 'tier' failed to satisfy constraint: Member must satisfy enum value set: [Standard, Advanced, Intelligent-Tiering]")
	}
	switch {
	case tier == tierStandard && len(v.Value) > standardLimit:
		return "", invalid("Standard tier parameters support a maximum parameter value of 4096 characters. To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier.")
	case len(v.Value) > advancedLimit:
		return "", invalid("Advanced tier parameters support a maximum parameter value of 8192 characters.")
	}
	return tier, nil
}

func (s *Server) deleteParameter(in *input) (any, *awswire.Failure) {
	name := strings.TrimSpace(in.Name)
	if _, ok := s.params[name]; !ok {
		return nil, ssmFailure("ParameterNotFound", "")
	}
	delete(s.params, name)
	return struct{}{}, nil
}

func (s *Server) deleteParameters(in *input) (any, *awswire.Failure) {
	if f := checkTen(in.Names); f != nil {
		return nil, f
	}
	out := struct{ DeletedParameters, InvalidParameters []string }{[]string{}, []string{}}
	for _, name := range in.Names {
		if _, ok := s.params[name]; !ok {
			out.InvalidParameters = append(out.InvalidParameters, name)
			continue
		}
		delete(s.params, name)
		out.DeletedParameters = append(out.DeletedParameters, name)
	}
	return out, nil
}
