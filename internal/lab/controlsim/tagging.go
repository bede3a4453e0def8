// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// Limits of GetResources. https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
const (
	maxResources    = 100 // a page
	defResources    = 50  // a page, if the client does not say
	maxFilters      = 50
	maxFilterValues = 20
	maxTypes        = 100
	maxARNs         = 100
)

// tagFilter is met by a resource that has the key, with any of the values if there are some.
type tagFilter struct {
	Key    string
	Values []string
}

func (f tagFilter) met(tags map[string]string) bool {
	value, has := tags[f.Key]
	return has && (len(f.Values) == 0 || slices.Contains(f.Values, value))
}

type (
	wireTag      struct{ Key, Value string }
	wireResource struct {
		ResourceARN string
		Tags        []wireTag
	}
)

func invalidResources(format string, args ...any) *awswire.Failure {
	return &awswire.Failure{Code: "InvalidParameterException", Message: fmt.Sprintf(format, args...)}
}

// checkResources applies the rules of the request. The page's size is its second result.
func checkResources(rq *request) (perPage int, f *awswire.Failure) {
	in := &rq.in
	perPage = defResources
	if in.ResourcesPerPage != nil {
		perPage = *in.ResourcesPerPage
	}
	byARN := len(in.ResourceARNList) > 0
	switch {
	case perPage < 1 || perPage > maxResources:
		return 0, invalidResources("ResourcesPerPage must be between 1 and %d.", maxResources)
	case len(in.TagFilters) > maxFilters || len(in.ResourceTypeFilters) > maxTypes || len(in.ResourceARNList) > maxARNs:
		return 0, invalidResources("There are too many filters.")
	case slices.ContainsFunc(in.TagFilters, func(f tagFilter) bool { return f.Key == "" || len(f.Values) > maxFilterValues }):
		return 0, invalidResources("A tag filter needs a key, and may have %d values.", maxFilterValues)
	case byARN && (len(in.TagFilters) > 0 || len(in.ResourceTypeFilters) > 0):
		return 0, invalidResources("ResourceARNList goes with no filter.")
	case byARN && (in.ResourcesPerPage != nil || in.TagsPerPage != nil || in.PaginationToken != ""):
		return 0, invalidResources("ResourceARNList goes with no pagination.")
	case in.TagsPerPage != nil:
		return 0, invalidResources("TagsPerPage is not known here: use ResourcesPerPage.")
	case rq.page.bad:
		return 0, invalidResources("Invalid pagination token supplied")
	}
	return perPage, nil
}

// getResources shows functions that have tags, and without a tag filter also those that once had. A page ends before
// the first that it has no room for, or when as many functions as Config.TaggingScan says have been looked at.
func (s *Server) getResources(rq *request) (any, *awswire.Failure) {
	perPage, failure := checkResources(rq)
	if failure != nil {
		return nil, failure
	}
	out := struct {
		PaginationToken        string
		ResourceTagMappingList []wireResource
	}{ResourceTagMappingList: []wireResource{}}
	if len(rq.in.ResourceARNList) > 0 {
		for _, arn := range rq.in.ResourceARNList {
			ref := s.parseReference(arn, "")
			if state := s.tagState(ref.name); ref.bad == nil && ref.qualifier == "" && state.tagged {
				out.ResourceTagMappingList = append(out.ResourceTagMappingList, s.resource(ref.name, state))
			}
		}
		return out, nil
	}
	if !wantsFunctions(rq.in.ResourceTypeFilters) {
		return out, nil
	}
	rest := rq.page.rest(s.taggedNames())
	for i, name := range rest {
		state := s.tagState(name)
		matches := state.matches(rq.in.TagFilters)
		if s.scan > 0 && i == s.scan || matches && len(out.ResourceTagMappingList) == perPage {
			out.PaginationToken = rq.page.token(rest[i-1])
			break
		}
		if matches {
			out.ResourceTagMappingList = append(out.ResourceTagMappingList, s.resource(name, state))
		}
	}
	return out, nil
}

func (t tagState) matches(filters []tagFilter) bool {
	return t.tagged && !slices.ContainsFunc(filters, func(f tagFilter) bool { return !f.met(t.tags) })
}

// wantsFunctions: a filter is a service, or a service and one type of its resources; none is all.
func wantsFunctions(types []string) bool {
	return len(types) == 0 || slices.ContainsFunc(types, func(t string) bool {
		return strings.EqualFold(t, "lambda") || strings.EqualFold(t, "lambda:function")
	})
}

func (s *Server) resource(name string, state tagState) wireResource {
	out := wireResource{s.ARN(name), make([]wireTag, 0, len(state.tags))}
	for _, key := range slices.Sorted(maps.Keys(state.tags)) {
		out.Tags = append(out.Tags, wireTag{key, state.tags[key]})
	}
	return out
}
