// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// request is what any of the operations needs of an HTTP request.
type request struct {
	function string // as the client named it: a name, an ARN, with or without a qualifier
	ref      reference
	alias    string // in the path
	query    url.Values
	page     cursor // which page of a listing
	in       input
}

// input has the members of the operations' bodies that the server knows.
type input struct {
	// Lambda
	FunctionName    string
	Role            string
	Description     *string
	Name            string
	FunctionVersion string
	Tags            map[string]string
	// GetResources
	ResourceARNList     []string
	ResourceTypeFilters []string
	ResourcesPerPage    *int
	TagsPerPage         *int
	TagFilters          []tagFilter
	PaginationToken     string
}

// operation is one that the server has. Its do is called with mu held.
type operation struct {
	name   string
	family string
	status int    // of success; zero: awswire's
	event  string // CloudTrail's name of a call that changes something; empty: it does not
	do     func(*Server, *request) (any, *awswire.Failure)
	// parameters are the event's requestParameters.
	parameters func(*request) map[string]any
}

// read says what a request asks for, by the marks of the three protocols. It runs before Start has set s.Server.
func (s *Server) read(r *http.Request, body []byte) awswire.Request {
	target := r.Header.Get("X-Amz-Target")
	switch {
	case target != "":
		return s.readTagging(r, target, body)
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		return s.readSTS(r, body)
	default:
		return s.readLambda(r, body)
	}
}

func (s *Server) readTagging(r *http.Request, target string, body []byte) awswire.Request {
	name, known := strings.CutPrefix(target, "ResourceGroupsTaggingAPI_20170126.")
	rq := &request{}
	out := awswire.Request{Op: name, Service: "tagging", Action: "tag:" + name, Protocol: awswire.JSON11}
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/" || !known || name != "GetResources":
		out.Refuse = awswire.JSON11.Common("UnknownOperationException", "")
	case json.Unmarshal(body, &rq.in) != nil:
		out.Refuse = awswire.JSON11.Common("SerializationException", "")
	}
	rq.page = openCursor(rq.in.PaginationToken)
	out.Page = rq.page.page
	return s.join(operation{family: familyTagging, do: (*Server).getResources}, rq, out)
}

func (s *Server) readSTS(r *http.Request, body []byte) awswire.Request {
	form, err := url.ParseQuery(string(body))
	name := form.Get("Action")
	out := awswire.Request{Op: name, Service: "sts", Action: "sts:" + name, Protocol: awswire.Query}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/" || name != "GetCallerIdentity" {
		out.Refuse = &awswire.Failure{Code: "InvalidAction", Message: "Could not find operation " + name + "."}
	}
	return s.join(operation{family: familySTS, do: (*Server).getCallerIdentity}, &request{}, out)
}

func (s *Server) readLambda(r *http.Request, body []byte) awswire.Request {
	segments, route := lambdaRoute(r)
	op, known := lambdaOperations[route]
	rq := &request{query: r.URL.Query()}
	var err error
	if len(body) > 0 {
		err = json.Unmarshal(body, &rq.in)
	}
	if rq.function = rq.in.FunctionName; len(segments) > 2 {
		rq.function = segments[2]
	}
	if len(segments) > 4 {
		rq.alias = segments[4]
	}
	rq.ref = s.parseReference(rq.function, rq.query.Get("Qualifier"))

	out := awswire.Request{
		Op: op.name, Name: rq.ref.name, Service: "lambda", Action: "lambda:" + op.name, Protocol: awswire.RESTJSON,
	}
	if out.Name != "" {
		out.Resource = s.ARN(out.Name)
	}
	switch {
	case !known:
		out.Op = r.Method + " " + r.URL.Path
		out.Refuse = awswire.RESTJSON.Common("UnknownOperationException", "")
	case err != nil:
		out.Refuse = &awswire.Failure{Code: "InvalidRequestContentException", Message: "Could not parse request body into json."}
	}
	if strings.HasPrefix(op.name, "List") && op.name != "ListTags" {
		rq.page = openCursor(rq.query.Get("Marker"))
		out.Page = rq.page.page
	}
	return s.join(op, rq, out)
}

// lambdaRoute is the path, and the key of it in lambdaOperations: the method, and stars for what differs. Older SDKs
// end the path of a collection with a slash.
func lambdaRoute(r *http.Request) (segments []string, route string) {
	segments = strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	shape := append([]string(nil), segments...)
	for _, i := range []int{2, 4} {
		if i >= len(segments) {
			break
		}
		shape[i] = "*"
		if plain, err := url.PathUnescape(segments[i]); err == nil {
			segments[i] = plain
		}
	}
	return segments, r.Method + " " + strings.Join(shape, "/")
}

// join adds the rules that all operations have: throttling first, then permission, then the operation and, in the same
// moment, its event. What was planned for the request as a whole (a fault) comes before them.
func (s *Server) join(op operation, rq *request, out awswire.Request) awswire.Request {
	out.Status = op.status
	out.Do = func() (any, *awswire.Failure) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l := s.limiters[op.family]; l != nil && !l.Allow() {
			return nil, rateExceeded(out.Protocol)
		}
		if s.denied[out.Action] {
			return nil, out.Protocol.Common("AccessDeniedException", s.account.Denied(out.Action, out.Resource))
		}
		answer, f := op.do(s, rq)
		if f == nil && op.event != "" {
			s.emit(APICall{Name: op.event, Parameters: op.parameters(rq), Response: answer})
		}
		return answer, f
	}
	if op.event != "" {
		out.Failed = func(f *awswire.Failure) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.emit(APICall{Name: op.event, Parameters: op.parameters(rq), ErrorCode: f.Code, ErrorMessage: f.Message})
		}
	}
	return out
}
