// SPDX-License-Identifier: MPL-2.0

package ssmsim

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// Limits of Parameter Store, from the AWS documentation of PutParameter.
const (
	standardLimit = 4096
	advancedLimit = 8192
	keptVersions  = 100
	maxLevels     = 15
	maxNameAndARN = 1011
)

const (
	tierStandard    = "Standard"
	tierAdvanced    = "Advanced"
	tierIntelligent = "Intelligent-Tiering"
)

// Parameter is the newest version of one parameter.
type Parameter struct {
	Name  string
	Value string
	// Type is String, StringList or SecureString.
	Type string
	// Tier is Standard or Advanced.
	Tier string
	// KeyID is the KMS key of a SecureString, "" for the other types.
	KeyID string
	// Description is what its writer said of this version, "" for nothing.
	Description string
	// Version starts at 1.
	Version      int64
	LastModified time.Time
}

type parameter struct {
	versions []Parameter // oldest first, at most keptVersions, never empty
}

func (p *parameter) newest() Parameter { return p.versions[len(p.versions)-1] }

// Put writes a SecureString past all faults, limits and name rules, moving it
// to the Advanced tier if it needs that. It returns the new version.
func (s *Server) Put(name, value string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store(Parameter{
		Name: name, Value: value, Type: "SecureString", KeyID: "alias/aws/ssm",
		Tier: s.intelligentTier(name, value),
	})
}

// Get returns the newest version of a parameter and whether there is one. It is
// not a recorded call.
func (s *Server) Get(name string) (Parameter, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.params[name]
	if !ok {
		return Parameter{}, false
	}
	return p.newest(), true
}

// Delete removes a parameter and says whether there was one.
func (s *Server) Delete(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.params[name]
	delete(s.params, name)
	return ok
}

// Names returns the names of all parameters, sorted.
func (s *Server) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.params))
}

// store adds a version. The caller holds mu.
func (s *Server) store(v Parameter) int64 {
	p := s.params[v.Name]
	if p == nil {
		p = &parameter{}
		s.params[v.Name] = p
		v.Version = 1
	} else {
		v.Version = p.newest().Version + 1
	}
	v.LastModified = time.Now()
	p.versions = append(p.versions, v)
	if extra := len(p.versions) - keptVersions; extra > 0 {
		p.versions = slices.Delete(p.versions, 0, extra)
	}
	return v.Version
}

// intelligentTier is the tier that Intelligent-Tiering chooses: Advanced once it
// was needed, for good. The caller holds mu.
func (s *Server) intelligentTier(name, value string) string {
	if p := s.params[name]; len(value) > standardLimit || p != nil && p.newest().Tier == tierAdvanced {
		return tierAdvanced
	}
	return tierStandard
}

func (s *Server) arn(name string) string {
	return s.account.ARN("ssm", "parameter/"+strings.TrimPrefix(name, "/"))
}

// The wire forms. A timestamp is a number of seconds since 1970 in AWS JSON 1.1.
type (
	wireParameter struct {
		ARN              string
		DataType         string
		LastModifiedDate float64
		Name             string
		Selector         string `json:",omitempty"`
		Type             string
		Value            string
		Version          int64
	}
	wireMetadata struct {
		ARN              string
		DataType         string
		Description      string `json:",omitempty"`
		KeyID            string `json:"KeyId,omitempty"`
		LastModifiedDate float64
		LastModifiedUser string
		Name             string
		Tier             string
		Type             string
		Version          int64
	}
)

func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (s *Server) wire(v Parameter, selector string, decrypt bool) wireParameter {
	value := v.Value
	if v.Type == "SecureString" && !decrypt {
		sum := sha256.Sum256([]byte(value))
		value = "AQICAH" + base64.StdEncoding.EncodeToString(sum[:]) // stands for the ciphertext
	}
	return wireParameter{
		ARN: s.arn(v.Name), DataType: "text", LastModifiedDate: epoch(v.LastModified),
		Name: v.Name, Selector: selector, Type: v.Type, Value: value, Version: v.Version,
	}
}

// lookup finds "name" or "name:version".
func (s *Server) lookup(nameAndSelector string) (v Parameter, selector string, f *awswire.Failure) {
	name, version, selected := strings.Cut(strings.TrimSpace(nameAndSelector), ":")
	p, ok := s.params[name]
	if !ok {
		return v, "", ssmFailure("ParameterNotFound", "")
	}
	if !selected {
		return p.newest(), "", nil
	}
	if n, err := strconv.ParseInt(version, 10, 64); err == nil {
		for _, v := range p.versions {
			if v.Version == n {
				return v, ":" + version, nil
			}
		}
	}
	return v, "", ssmFailure("ParameterVersionNotFound", fmt.Sprintf(
		"Systems Manager could not find version %s of %s. Verify the version and try again.", version, name))
}

func (s *Server) getParameter(in *input) (any, *awswire.Failure) {
	if in.Name == "" {
		return nil, invalid("1 validation error detected: Value at 'name' failed to satisfy constraint: Member must not be null")
	}
	v, selector, f := s.lookup(in.Name)
	if f != nil {
		return nil, f
	}
	return struct{ Parameter wireParameter }{s.wire(v, selector, in.WithDecryption)}, nil
}

func checkTen(names []string) *awswire.Failure {
	if n := len(names); n < 1 || n > 10 {
		return invalid("1 validation error detected: Value at 'names' failed to satisfy constraint: Member must have length between 1 and 10, has %d", n)
	}
	return nil
}

func (s *Server) getParameters(in *input) (any, *awswire.Failure) {
	if f := checkTen(in.Names); f != nil {
		return nil, f
	}
	out := struct {
		Parameters        []wireParameter
		InvalidParameters []string
	}{[]wireParameter{}, []string{}}
	for _, name := range in.Names {
		v, selector, f := s.lookup(name)
		if f != nil {
			out.InvalidParameters = append(out.InvalidParameters, name)
			continue
		}
		out.Parameters = append(out.Parameters, s.wire(v, selector, in.WithDecryption))
	}
	return out, nil
}

func (s *Server) getParametersByPath(in *input) (any, *awswire.Failure) {
	if !strings.HasPrefix(in.Path, "/") {
		return nil, invalid("The parameter path must begin with a forward slash.")
	}
	page, next, f := s.page(in, 10, func(v Parameter) bool { return under(v.Name, in.Path, in.Recursive) })
	if f != nil {
		return nil, f
	}
	out := struct {
		Parameters []wireParameter
		NextToken  string `json:",omitempty"`
	}{[]wireParameter{}, next}
	for _, v := range page {
		out.Parameters = append(out.Parameters, s.wire(v, "", in.WithDecryption))
	}
	return out, nil
}

func (s *Server) describeParameters(in *input) (any, *awswire.Failure) {
	for _, f := range in.ParameterFilters {
		if _, err := f.match(Parameter{}); err != nil {
			return nil, err
		}
	}
	page, next, f := s.page(in, 50, func(v Parameter) bool {
		for _, f := range in.ParameterFilters {
			if ok, _ := f.match(v); !ok {
				return false
			}
		}
		return true
	})
	if f != nil {
		return nil, f
	}
	out := struct {
		Parameters []wireMetadata
		NextToken  string `json:",omitempty"`
	}{[]wireMetadata{}, next}
	for _, v := range page {
		out.Parameters = append(out.Parameters, wireMetadata{
			ARN: s.arn(v.Name), DataType: "text", KeyID: v.KeyID, LastModifiedDate: epoch(v.LastModified),
			LastModifiedUser: fmt.Sprintf("arn:%s:sts::%s:assumed-role/writer/writer", s.account.Partition, s.account.ID),
			Name:             v.Name, Tier: v.Tier, Type: v.Type, Version: v.Version, Description: v.Description,
		})
	}
	return out, nil
}

// match says whether v passes; a failure is a filter AWS would refuse.
func (f filter) match(v Parameter) (bool, *awswire.Failure) {
	var test func(value string) bool
	option := cmp.Or(f.Option, map[string]string{"Path": "OneLevel"}[f.Key], "Equals")
	switch f.Key + " " + option {
	case "Path Recursive", "Path OneLevel":
		test = func(path string) bool { return under(v.Name, path, option == "Recursive") }
	case "Name Equals":
		test = func(name string) bool { return v.Name == name }
	case "Name BeginsWith":
		test = func(prefix string) bool { return strings.HasPrefix(v.Name, prefix) }
	case "Name Contains":
		test = func(part string) bool { return strings.Contains(v.Name, part) }
	case "Type Equals":
		test = func(typ string) bool { return v.Type == typ }
	case "Tier Equals":
		test = func(tier string) bool { return v.Tier == tier }
	default:
		return false, ssmFailure("InvalidFilterOption", fmt.Sprintf(
			"The following filter option is not valid for %s: %s", f.Key, f.Option))
	}
	if len(f.Values) == 0 {
		return false, ssmFailure("InvalidFilterValue", "The filter has no values.")
	}
	if f.Key == "Path" && slices.ContainsFunc(f.Values, func(p string) bool { return !strings.HasPrefix(p, "/") }) {
		return false, invalid("The parameter path must begin with a forward slash.")
	}
	return slices.ContainsFunc(f.Values, test), nil
}

// under says whether name lies below path, at any depth or directly.
func under(name, path string, recursive bool) bool {
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(path, "/")+"/")
	return ok && rest != "" && (recursive || !strings.Contains(rest, "/"))
}

// page returns up to MaxResults (at most limit) of the parameters that match,
// in the order of their names, from where NextToken left off.
func (s *Server) page(in *input, limit int, match func(Parameter) bool) (page []Parameter, next string, f *awswire.Failure) {
	n := limit
	if in.MaxResults != nil {
		if n = *in.MaxResults; n < 1 || n > limit {
			return nil, "", invalid("1 validation error detected: Value '%d' at 'maxResults' failed to satisfy constraint: Member must have value between 1 and %d", n, limit)
		}
	}
	after := ""
	if in.NextToken != "" {
		raw, err := base64.RawURLEncoding.DecodeString(in.NextToken)
		name, ok := strings.CutPrefix(string(raw), tokenMark)
		if err != nil || !ok {
			return nil, "", ssmFailure("InvalidNextToken", "The specified token isn't valid.")
		}
		after = name
	}
	for _, name := range slices.Sorted(maps.Keys(s.params)) {
		v := s.params[name].newest()
		if name <= after || !match(v) {
			continue
		}
		if len(page) == n {
			return page, base64.RawURLEncoding.EncodeToString([]byte(tokenMark + page[n-1].Name)), nil
		}
		page = append(page, v)
	}
	return page, "", nil
}

const tokenMark = "after\x00"
