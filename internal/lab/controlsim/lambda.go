// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// maxListed is how many functions or aliases a page has at most, "even if you set the number higher".
// https://docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html
const maxListed = 50

// What all functions here have.
const (
	runtime = "provided.al2023"
	handler = "bootstrap"
)

// lambdaOperations has the operations by method and path. What differs in a path is a star.
var lambdaOperations = map[string]operation{
	"POST 2015-03-31/functions": {
		name: "CreateFunction", family: familyLambda, status: http.StatusCreated, do: (*Server).createFunction,
		event: createFunction,
		parameters: func(rq *request) map[string]any {
			return createParameters(Function{Name: rq.function, Role: rq.in.Role, Tags: rq.in.Tags})
		},
	},
	"GET 2015-03-31/functions":   {name: "ListFunctions", family: familyLambda, do: (*Server).listFunctions},
	"GET 2015-03-31/functions/*": {name: "GetFunction", family: familyGetFunction, do: (*Server).getFunction},
	"GET 2015-03-31/functions/*/configuration": {
		name: "GetFunctionConfiguration", family: familyLambda, do: (*Server).getFunctionConfiguration,
	},
	"DELETE 2015-03-31/functions/*": {
		name: "DeleteFunction", family: familyLambda, do: (*Server).deleteFunction,
		event: deleteFunction,
		parameters: func(rq *request) map[string]any {
			p := map[string]any{"functionName": rq.function}
			if q := rq.query.Get("Qualifier"); q != "" {
				p["qualifier"] = q
			}
			return p
		},
	},
	"POST 2015-03-31/functions/*/versions": {
		name: "PublishVersion", family: familyLambda, status: http.StatusCreated, do: (*Server).publishVersion,
		event:      publishVersion,
		parameters: func(rq *request) map[string]any { return map[string]any{"functionName": rq.function} },
	},
	"GET 2017-03-31/tags/*": {name: "ListTags", family: familyLambda, do: (*Server).listTags},
	"POST 2017-03-31/tags/*": {
		name: "TagResource", family: familyLambda, do: (*Server).tagResource,
		event:      tagResource,
		parameters: func(rq *request) map[string]any { return tagParameters(rq.function, rq.in.Tags) },
	},
	"DELETE 2017-03-31/tags/*": {
		name: "UntagResource", family: familyLambda, do: (*Server).untagResource,
		event:      untagResource,
		parameters: func(rq *request) map[string]any { return untagParameters(rq.function, rq.query["tagKeys"]) },
	},
	"GET 2015-03-31/functions/*/aliases": {name: "ListAliases", family: familyLambda, do: (*Server).listAliases},
	"POST 2015-03-31/functions/*/aliases": {
		name: "CreateAlias", family: familyLambda, status: http.StatusCreated, do: (*Server).createAlias,
		event: createAlias,
		parameters: func(rq *request) map[string]any {
			return aliasParameters(rq.function, rq.in.Name, rq.in.FunctionVersion)
		},
	},
	"GET 2015-03-31/functions/*/aliases/*": {name: "GetAlias", family: familyLambda, do: (*Server).getAlias},
	"PUT 2015-03-31/functions/*/aliases/*": {
		name: "UpdateAlias", family: familyLambda, do: (*Server).updateAlias,
		event: updateAlias,
		parameters: func(rq *request) map[string]any {
			return aliasParameters(rq.function, rq.alias, rq.in.FunctionVersion)
		},
	},
	"DELETE 2015-03-31/functions/*/aliases/*": {
		name: "DeleteAlias", family: familyLambda, do: (*Server).deleteAlias,
		event:      deleteAlias,
		parameters: func(rq *request) map[string]any { return aliasParameters(rq.function, rq.alias, "") },
	},
}

// reference is how a request names a function.
type reference struct {
	name, qualifier string
	bad             *awswire.Failure // it names none that could be here
}

var functionName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// parseReference reads "name", "account:function:name" or an ARN, each perhaps with ":qualifier".
func (s *Server) parseReference(text, qualifier string) reference {
	name, bad := text, (*awswire.Failure)(nil)
	if owner, rest, found := strings.Cut(":"+text, ":function:"); found {
		name = rest
		if arn, _ := strings.CutSuffix(s.ARN(""), ":function:"); owner != ":"+arn && owner != ":"+s.account.ID && owner != "" {
			bad = notFound(text) // another account, region or partition: to this one it does not exist
		}
	}
	name, own, qualified := strings.Cut(name, ":")
	switch {
	case bad != nil:
	case !functionName.MatchString(name):
		bad = lambdaFailure(http.StatusBadRequest, "ValidationException", fmt.Sprintf(
			"1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern for function names and ARNs", text))
	case qualified && qualifier != "" && own != qualifier:
		bad = invalidParameter("The derived qualifier from the function name does not match the specified qualifier.")
	}
	if qualified {
		qualifier = own
	}
	return reference{name, qualifier, bad}
}

func lambdaFailure(status int, code, message string) *awswire.Failure {
	return &awswire.Failure{Status: status, Code: code, Message: message}
}

func notFound(arn string) *awswire.Failure {
	return lambdaFailure(http.StatusNotFound, "ResourceNotFoundException", "Function not found: "+arn)
}

func conflict(format string, args ...any) *awswire.Failure {
	return lambdaFailure(http.StatusConflict, "ResourceConflictException", fmt.Sprintf(format, args...))
}

func invalidParameter(format string, args ...any) *awswire.Failure {
	return lambdaFailure(http.StatusBadRequest, "InvalidParameterValueException", fmt.Sprintf(format, args...))
}

// find is the function that the request names, whatever its qualifier.
func (s *Server) find(rq *request) (*function, *awswire.Failure) {
	if rq.ref.bad != nil {
		return nil, rq.ref.bad
	}
	f, ok := s.functions[rq.ref.name]
	if !ok {
		return nil, notFound(s.ARN(rq.ref.name))
	}
	return f, nil
}

// wireConfiguration is a FunctionConfiguration.
type wireConfiguration struct {
	FunctionName, FunctionArn      string
	Role, Runtime, Handler         string
	Version, LastModified          string
	State, PackageType, CodeSha256 string
	CodeSize, MemorySize, Timeout  int
	LastUpdateStatus               string
	Architectures                  []string
	Environment                    *wireEnvironment `json:",omitempty"`
}

// wireEnvironment is an EnvironmentResponse.
type wireEnvironment struct {
	Variables map[string]string `json:",omitempty"`
	Error     *wireError        `json:",omitempty"`
}

// wireError stands in an answer for the part of it that the caller may not see.
type wireError struct{ ErrorCode, Message string }

// configuration is that of a function by a qualifier, which is part of the ARN unless it is "".
func (s *Server) configuration(f *function, qualifier string) wireConfiguration {
	version := qualifier
	if pointed, isAlias := f.Aliases[qualifier]; isAlias {
		version = pointed
	}
	name := f.Name
	if qualifier == "" {
		version = latest
	} else {
		name += ":" + qualifier
	}
	return wireConfiguration{
		FunctionName: f.Name, FunctionArn: s.ARN(name), Role: f.Role, Runtime: runtime, Handler: handler,
		Version: version, LastModified: f.modified.UTC().Format("2006-01-02T15:04:05.000-0700"),
		State: "Active", PackageType: "Zip", CodeSha256: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", // of nothing
		CodeSize: 1024, MemorySize: 128, Timeout: 3, LastUpdateStatus: "Successful", Architectures: []string{"x86_64"},
	}
}

func (s *Server) createFunction(rq *request) (any, *awswire.Failure) {
	if rq.ref.bad != nil {
		return nil, rq.ref.bad
	}
	if _, exists := s.functions[rq.ref.name]; exists {
		return nil, conflict("Function already exist: %s", rq.ref.name)
	}
	if f := checkTags(rq.in.Tags); f != nil {
		return nil, f
	}
	if rq.in.Role == "" {
		return nil, invalidParameter("The role defined for the function cannot be assumed by Lambda.")
	}
	return s.configuration(s.add(Function{Name: rq.ref.name, Role: rq.in.Role, Tags: rq.in.Tags}), ""), nil
}

// findQualified is find, and an error unless there is what the qualifier names.
func (s *Server) findQualified(rq *request) (*function, *awswire.Failure) {
	f, failure := s.find(rq)
	if failure != nil {
		return nil, failure
	}
	if q := rq.ref.qualifier; q != "" && f.Aliases[q] == "" && !f.hasVersion(q) {
		return nil, notFound(s.ARN(f.Name + ":" + q))
	}
	return f, nil
}

// withEnvironment is configuration, and the variables, which events and listings here do not have. As with tags, who may not decrypt
// them gets an answer all the same.
// https://docs.aws.amazon.com/lambda/latest/api/API_EnvironmentResponse.html
func (s *Server) withEnvironment(f *function, qualifier string) wireConfiguration {
	c := s.configuration(f, qualifier)
	switch {
	case len(f.Environment) == 0:
	case s.denied["kms:Decrypt"]:
		c.Environment = &wireEnvironment{Error: &wireError{"AccessDeniedException", s.account.Denied("kms:Decrypt", s.ARN(f.Name))}}
	default:
		c.Environment = &wireEnvironment{Variables: f.Environment}
	}
	return c
}

func (s *Server) getFunctionConfiguration(rq *request) (any, *awswire.Failure) {
	f, failure := s.findQualified(rq)
	if failure != nil {
		return nil, failure
	}
	return s.withEnvironment(f, rq.ref.qualifier), nil
}

func (s *Server) getFunction(rq *request) (any, *awswire.Failure) {
	f, failure := s.findQualified(rq)
	if failure != nil {
		return nil, failure
	}
	out := struct {
		Configuration wireConfiguration
		Code          struct{ RepositoryType, Location string }
		Tags          map[string]string `json:",omitempty"`
		TagsError     *wireError        `json:",omitempty"`
		Concurrency   struct{}
	}{Configuration: s.withEnvironment(f, rq.ref.qualifier)}
	out.Code.RepositoryType = "S3"
	out.Code.Location = "https://awslambda-" + s.account.Region + "-tasks.s3." + s.account.Region + ".amazonaws.com/snapshots/" + f.Name
	if s.denied["lambda:ListTags"] {
		out.TagsError = &wireError{"AccessDeniedException", s.account.Denied("lambda:ListTags", s.ARN(f.Name))}
	} else {
		out.Tags = f.Tags
	}
	return out, nil
}

// maxItems is how many a page may have. AWS bounds what can be asked for at 10,000.
func (rq *request) maxItems() (int, *awswire.Failure) {
	text := rq.query.Get("MaxItems")
	if text == "" {
		return maxListed, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 10_000 {
		return 0, lambdaFailure(http.StatusBadRequest, "ValidationException", fmt.Sprintf(
			"1 validation error detected: Value '%s' at 'maxItems' failed to satisfy constraint: Member must have value between 1 and 10000", text))
	}
	return min(n, maxListed), nil
}

// listed is the names on the page that is asked for, and the marker of the next.
func (rq *request) listed(sorted []string) (names []string, next string, f *awswire.Failure) {
	n, f := rq.maxItems()
	if f != nil {
		return nil, "", f
	}
	if rq.page.bad {
		return nil, "", invalidParameter("Invalid Marker")
	}
	names = rq.page.rest(sorted)
	if len(names) > n {
		names = names[:n]
		next = rq.page.token(names[n-1])
	}
	return names, next, nil
}

func (s *Server) listFunctions(rq *request) (any, *awswire.Failure) {
	names, next, f := rq.listed(s.names())
	if f != nil {
		return nil, f
	}
	out := struct {
		Functions  []wireConfiguration
		NextMarker string `json:",omitempty"`
	}{make([]wireConfiguration, 0, len(names)), next}
	for _, name := range names {
		out.Functions = append(out.Functions, s.configuration(s.functions[name], ""))
	}
	return out, nil
}

func (s *Server) deleteFunction(rq *request) (any, *awswire.Failure) {
	f, failure := s.find(rq)
	if failure != nil {
		return nil, failure
	}
	q := rq.ref.qualifier
	switch {
	case q == "":
		s.remove(f.Name)
		return nil, nil
	case q == latest:
		return nil, invalidParameter("$LATEST version cannot be deleted without deleting the function.")
	case f.Aliases[q] != "":
		return nil, invalidParameter("Deletion of aliases is not currently supported.")
	case !f.hasVersion(q):
		return nil, nil // deleting a version that is not there succeeds
	}
	for _, alias := range slices.Sorted(maps.Keys(f.Aliases)) {
		if f.Aliases[alias] == q {
			return nil, conflict("Version %s is being used by the alias [%s]. It can't be deleted.", q, alias)
		}
	}
	n, _ := strconv.Atoi(q) // hasVersion has read it
	f.gone[n] = true
	return nil, nil
}

func (s *Server) publishVersion(rq *request) (any, *awswire.Failure) {
	f, failure := s.find(rq)
	if failure != nil {
		return nil, failure
	}
	f.Versions++
	return s.configuration(f, strconv.Itoa(f.Versions)), nil
}
