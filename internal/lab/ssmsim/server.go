// SPDX-License-Identifier: MPL-2.0

package ssmsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/consul-lambda/consul-lambda/internal/lab/awswire"
)

// Config says which account the server plays. Its zero value works.
type Config struct {
	// Addr is the address to listen on. Empty: 127.0.0.1 and a free port.
	Addr string
	// Region is part of ARNs, and what a signature must be scoped to once
	// RequireAuth is set. Empty: us-east-1.
	Region string
	// AccountID is part of ARNs. Empty: 123456789012.
	AccountID string
}

// Call is one request as it arrived. Its Name is the parameter's name, the path
// of GetParametersByPath, or the first of several names; as the client sent it.
type Call = awswire.Call

// A Server is one account's Parameter Store in one region. All its methods may
// be called at any time from any goroutine.
type Server struct {
	*awswire.Server // URL, Close, calls, faults, latency and RequireAuth

	account awswire.Account

	mu     sync.Mutex
	params map[string]*parameter
	reads  *rate.Limiter // Get*; nil: unlimited
	writes *rate.Limiter // PutParameter; nil: unlimited
}

// Start listens and serves until Close.
func Start(cfg Config) (*Server, error) {
	s := &Server{
		account: awswire.Account{Region: cfg.Region, ID: cfg.AccountID}.Resolve(),
		params:  make(map[string]*parameter),
	}
	var err error
	if s.Server, err = awswire.Start(awswire.Config{Addr: cfg.Addr, Account: s.account, Read: s.read}); err != nil {
		return nil, fmt.Errorf("starting parameter store: %w", err)
	}
	return s, nil
}

// input has the members of every operation's request that the server knows.
type input struct {
	Name             string
	Names            []string
	Path             string
	Value            *string
	Description      string
	Type             string
	Tier             string
	KeyID            string `json:"KeyId"`
	Overwrite        bool
	Recursive        bool
	WithDecryption   bool
	MaxResults       *int
	NextToken        string
	ParameterFilters []filter
}

// filter is a ParameterStringFilter.
type filter struct {
	Key    string
	Option string
	Values []string
}

// ssmFailure is an error of the service's own model, coralFailure one of the
// layer that all AWS services share. Both are answered with HTTP 400.
func ssmFailure(code, message string) *awswire.Failure {
	return &awswire.Failure{Namespace: "com.amazonaws.ssm", Code: code, Message: message}
}

func coralFailure(code, message string) *awswire.Failure {
	return awswire.JSON11.Common(code, message)
}

func invalid(format string, args ...any) *awswire.Failure {
	return coralFailure("ValidationException", fmt.Sprintf(format, args...))
}

// read says what a request asks for. It runs before Start has set s.Server.
func (s *Server) read(r *http.Request, body []byte) awswire.Request {
	var in input
	op, known := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonSSM.")
	decodeErr := json.Unmarshal(body, &in)
	req := awswire.Request{
		Op: op, Name: in.firstName(), Service: "ssm", Action: "ssm:" + op,
		Do: func() (any, *awswire.Failure) { return s.do(op, &in) },
	}
	req.Resource = s.arn(req.Name)
	if op == "DescribeParameters" {
		req.Resource = s.account.ARN("ssm", "*")
	}
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/" || !known:
		req.Refuse = coralFailure("UnknownOperationException", "")
	case decodeErr != nil:
		req.Refuse = coralFailure("SerializationException", "")
	}
	return req
}

func (in *input) firstName() string {
	switch {
	case in.Name != "":
		return in.Name
	case len(in.Names) > 0:
		return in.Names[0]
	default:
		return in.Path
	}
}

// do throttles, then does the operation, in the order in which AWS does them.
func (s *Server) do(op string, in *input) (any, *awswire.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.admit(op) {
		return nil, throttled
	}
	switch op {
	case "GetParameter":
		return s.getParameter(in)
	case "GetParameters":
		return s.getParameters(in)
	case "GetParametersByPath":
		return s.getParametersByPath(in)
	case "DescribeParameters":
		return s.describeParameters(in)
	case "PutParameter":
		return s.putParameter(in)
	case "DeleteParameter":
		return s.deleteParameter(in)
	case "DeleteParameters":
		return s.deleteParameters(in)
	}
	return nil, coralFailure("UnknownOperationException", "")
}
