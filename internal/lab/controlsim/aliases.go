// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"maps"
	"net/http"
	"regexp"
	"slices"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// aliasName must not be a number: that is a version.
var (
	aliasName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	allDigits = regexp.MustCompile(`^[0-9]+$`)
)

// wireAlias is an AliasConfiguration.
type wireAlias struct{ AliasArn, Name, FunctionVersion, Description, RevisionId string }

func (s *Server) alias(f *function, name string) wireAlias {
	n := f.notes[name]
	return wireAlias{s.ARN(f.Name + ":" + name), name, f.Aliases[name], n.description, n.revision}
}

// point makes an alias point to a version, described anew unless description is nil.
func (s *Server) point(f *function, name, version string, description *string) wireAlias {
	aliases := make(map[string]string, len(f.Aliases)+1)
	maps.Copy(aliases, f.Aliases)
	aliases[name] = version
	f.Aliases = aliases
	n := note{f.notes[name].description, awswire.RequestID()}
	if description != nil {
		n.description = *description
	}
	f.notes[name] = n
	return s.alias(f, name)
}

func (s *Server) noAlias(f *function, name string) *awswire.Failure {
	return lambdaFailure(http.StatusNotFound, "ResourceNotFoundException", "Cannot find alias arn: "+s.ARN(f.Name+":"+name))
}

// findAlias is the function and the alias that the path names.
func (s *Server) findAlias(rq *request) (*function, *awswire.Failure) {
	f, failure := s.find(rq)
	if failure != nil {
		return nil, failure
	}
	if f.Aliases[rq.alias] == "" {
		return nil, s.noAlias(f, rq.alias)
	}
	return f, nil
}

func (s *Server) createAlias(rq *request) (any, *awswire.Failure) {
	f, failure := s.find(rq)
	if failure != nil {
		return nil, failure
	}
	name, version := rq.in.Name, rq.in.FunctionVersion
	switch {
	case !aliasName.MatchString(name) || allDigits.MatchString(name):
		return nil, invalidParameter("The alias name %q is not valid.", name)
	case f.Aliases[name] != "":
		return nil, conflict("Alias already exists: %s", s.ARN(f.Name+":"+name))
	case !f.hasVersion(version):
		return nil, notFound(s.ARN(f.Name + ":" + version))
	}
	return s.point(f, name, version, rq.in.Description), nil
}

func (s *Server) getAlias(rq *request) (any, *awswire.Failure) {
	f, failure := s.findAlias(rq)
	if failure != nil {
		return nil, failure
	}
	return s.alias(f, rq.alias), nil
}

func (s *Server) updateAlias(rq *request) (any, *awswire.Failure) {
	f, failure := s.findAlias(rq)
	if failure != nil {
		return nil, failure
	}
	version := rq.in.FunctionVersion
	switch {
	case version == "":
		version = f.Aliases[rq.alias]
	case !f.hasVersion(version):
		return nil, notFound(s.ARN(f.Name + ":" + version))
	}
	return s.point(f, rq.alias, version, rq.in.Description), nil
}

// deleteAlias succeeds for an alias that is not there, as Lambda does.
func (s *Server) deleteAlias(rq *request) (any, *awswire.Failure) {
	f, failure := s.find(rq)
	if failure != nil {
		return nil, failure
	}
	aliases := maps.Clone(f.Aliases)
	delete(aliases, rq.alias)
	f.Aliases = aliases
	delete(f.notes, rq.alias)
	return nil, nil
}

func (s *Server) listAliases(rq *request) (any, *awswire.Failure) {
	f, failure := s.find(rq)
	if failure != nil {
		return nil, failure
	}
	version := rq.query.Get("FunctionVersion")
	var all []string
	for _, name := range slices.Sorted(maps.Keys(f.Aliases)) {
		if version == "" || f.Aliases[name] == version {
			all = append(all, name)
		}
	}
	names, next, failure := rq.listed(all)
	if failure != nil {
		return nil, failure
	}
	out := struct {
		Aliases    []wireAlias
		NextMarker string `json:",omitempty"`
	}{make([]wireAlias, 0, len(names)), next}
	for _, name := range names {
		out.Aliases = append(out.Aliases, s.alias(f, name))
	}
	return out, nil
}
