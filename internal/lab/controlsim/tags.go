// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"maps"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// Limits of tags. https://docs.aws.amazon.com/tag-editor/latest/userguide/reference.md
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

func checkTags(tags map[string]string) *awswire.Failure {
	for key, value := range tags {
		switch {
		case key == "" || utf8.RuneCountInString(key) > maxTagKey || !tagText.MatchString(key):
			return invalidParameter("The tag key %q is not valid.", key)
		case utf8.RuneCountInString(value) > maxTagValue || !tagText.MatchString(value):
			return invalidParameter("The value of the tag %q is not valid.", key)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalidParameter("aws: prefixed tag key names are not allowed for external use.")
		}
	}
	if len(tags) > maxTags {
		return invalidParameter("The maximum number of tags is %d.", maxTags)
	}
	return nil
}

// taggable is the function that the request's ARN names. A name alone will not do, nor a version or an alias.
func (s *Server) taggable(rq *request) (*function, *awswire.Failure) {
	if !strings.HasPrefix(rq.function, "arn:") || rq.ref.qualifier != "" {
		return nil, invalidParameter("Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	return s.find(rq)
}

func (s *Server) listTags(rq *request) (any, *awswire.Failure) {
	f, failure := s.taggable(rq)
	if failure != nil {
		return nil, failure
	}
	tags := f.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return struct{ Tags map[string]string }{tags}, nil
}

func (s *Server) tagResource(rq *request) (any, *awswire.Failure) {
	f, failure := s.taggable(rq)
	if failure != nil {
		return nil, failure
	}
	if failure := checkTags(rq.in.Tags); failure != nil {
		return nil, failure
	}
	tags := make(map[string]string, len(f.Tags)+len(rq.in.Tags))
	maps.Copy(tags, f.Tags)
	maps.Copy(tags, rq.in.Tags)
	if failure := checkTags(tags); failure != nil {
		return nil, failure // too many, together
	}
	f.setTags(tags)
	return nil, nil
}

func (s *Server) untagResource(rq *request) (any, *awswire.Failure) {
	f, failure := s.taggable(rq)
	if failure != nil {
		return nil, failure
	}
	tags := maps.Clone(f.Tags)
	for _, key := range rq.query["tagKeys"] {
		delete(tags, key)
	}
	f.setTags(tags)
	return nil, nil
}
