// SPDX-License-Identifier: MPL-2.0

package lambdasim

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxPayload is Lambda's limit of a response, and this package's of any body.
const maxPayload = 6 << 20

// errClosing answers a call that waited for an event when the sandbox ended;
// mostly nobody is there to read it.
var errClosing = &apiError{http.StatusInternalServerError, "InternalServerError", "Container error"}

// api serves both APIs of a sandbox on one address, as Lambda does. It looks up
// the current domain with each request: the address outlives a reset.
type api struct {
	current  func() *domain
	function Function
	options  Options

	listener net.Listener
	server   *http.Server
	endCalls context.CancelFunc // ends the calls that wait for an event
	served   chan struct{}      // closed when Serve has returned
}

func newAPI(f Function, o Options, current func() *domain) (*api, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	calls, endCalls := context.WithCancel(context.Background())
	s := &api{current: current, function: f, options: o, listener: l, endCalls: endCalls, served: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2020-01-01/extension/register", s.register)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", s.extensionNext)
	mux.HandleFunc("POST /2020-01-01/extension/init/error", s.extensionError(stateInitError))
	mux.HandleFunc("POST /2020-01-01/extension/exit/error", s.extensionError(stateExitError))
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", s.runtimeNext)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", s.response)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", s.invocationError)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", s.runtimeInitError)
	s.server = &http.Server{
		Handler:           limitBody(mux),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return calls },
		ErrorLog:          log.New(io.Discard, "", 0), // a killed process cuts its calls: nothing to report
	}
	go s.serve()
	return s, nil
}

func (s *api) serve() {
	defer close(s.served)
	_ = s.server.Serve(s.listener) // always ErrServerClosed
}

func (s *api) address() string { return s.listener.Addr().String() }

// close ends every call and returns when none is left. The processes are gone by
// then: only calls of others can be under way, and a second is long for those.
func (s *api) close() {
	s.endCalls()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.server.Shutdown(ctx) // past its bound, Close cuts what is left
	_ = s.server.Close()
	<-s.served
}

func limitBody(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxPayload)
		h.ServeHTTP(w, r)
	})
}

func (s *api) register(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get("Lambda-Extension-Name")
	if name == "" {
		refuse(w, forbidden("Extension.InvalidExtensionName", "Empty extension name"))
		return
	}
	var body struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	if err == nil && len(body.ConfigurationKeys) > 0 {
		err = errors.New("configurationKeys are deprecated; use environment variables instead")
	}
	if err != nil {
		refuse(w, forbidden("InvalidRequestFormat", "%v", err))
		return
	}
	a, refused := s.current().register(name, body.Events)
	if refused != nil {
		refuse(w, refused)
		return
	}
	w.Header().Set("Lambda-Extension-Identifier", a.id)
	answer := map[string]string{
		"functionName":    s.function.Name,
		"functionVersion": s.function.Version,
		"handler":         s.function.Handler,
	}
	for feature := range strings.SplitSeq(r.Header.Get("Lambda-Extension-Accept-Feature"), ",") {
		if strings.TrimSpace(feature) == "accountId" {
			answer["accountId"] = s.options.AccountID
		}
	}
	writeJSON(w, http.StatusOK, answer)
}

// identifier returns the extension's identifier, which must look like a UUID.
func identifier(r *http.Request) (string, *apiError) {
	id := r.Header.Get("Lambda-Extension-Identifier")
	switch {
	case id == "":
		return "", forbidden("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
	case !isUUID(id):
		return "", forbidden("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
	}
	return id, nil
}

func isUUID(s string) bool {
	const form = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		hex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
		if form[i] == 'x' && !hex || form[i] == '-' && c != '-' {
			return false
		}
	}
	return true
}

func (s *api) extensionNext(w http.ResponseWriter, r *http.Request) {
	id, refused := identifier(r)
	if refused != nil {
		refuse(w, refused)
		return
	}
	e, refused := s.current().next(r.Context(), id)
	switch {
	case refused != nil:
		refuse(w, refused)
	case e != nil:
		if e.EventType == eventInvoke {
			w.Header().Set("Lambda-Extension-Event-Identifier", newUUID())
		}
		writeJSON(w, http.StatusOK, e)
	default:
		refuse(w, errClosing)
	}
}

func (s *api) extensionError(to state) http.HandlerFunc {
	const header = "Lambda-Extension-Function-Error-Type"
	return func(w http.ResponseWriter, r *http.Request) {
		id, refused := identifier(r)
		report := readReport(r, header)
		if refused == nil && report.Type == "" {
			refused = forbidden("Extension.MissingHeader", "%s not found", header)
		}
		if refused == nil {
			refused = s.current().extensionError(id, to, report)
		}
		accept(w, refused)
	}
}

func (s *api) runtimeNext(w http.ResponseWriter, r *http.Request) {
	i, refused := s.current().runtimeNext(r.Context())
	switch {
	case refused != nil:
		refuse(w, refused)
	case i != nil:
		h := w.Header()
		h.Set("Lambda-Runtime-Aws-Request-Id", i.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(i.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", i.arn)
		h.Set("Lambda-Runtime-Trace-Id", i.traceID)
		h.Set("Content-Type", "application/json")
		_, _ = w.Write(i.payload) // a runtime that left has its exit reported
	default:
		refuse(w, errClosing)
	}
}

func (s *api) response(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	result := Result{Payload: body}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refused := s.current().respond(r.PathValue("id"), functionError(
			"Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size"))
		if refused == nil {
			refused = &apiError{http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", err.Error()}
		}
		refuse(w, refused)
		return
	case err != nil:
		return // the runtime was cut off; it did not respond
	}
	// A runtime that fails while it streams says so in a trailer.
	if kind := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); kind != "" {
		result = functionError(kind, "the response was cut short")
	}
	accept(w, s.current().respond(r.PathValue("id"), result))
}

func (s *api) invocationError(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the runtime was cut off; it did not respond
	}
	accept(w, s.current().respond(r.PathValue("id"), Result{Payload: body, FunctionError: unhandled}))
}

func (s *api) runtimeInitError(w http.ResponseWriter, r *http.Request) {
	report := readReport(r, "Lambda-Runtime-Function-Error-Type")
	accept(w, s.current().runtimeInitError(report))
}

// functionError is a result made by the platform in the function's place.
func functionError(kind, message string) Result {
	payload, _ := json.Marshal(map[string]string{"errorType": kind, "errorMessage": message})
	return Result{Payload: payload, FunctionError: unhandled}
}

// readReport takes the type from the header and the message from the body, which
// is optional.
func readReport(r *http.Request, header string) ErrorReport {
	var body struct {
		Message string `json:"errorMessage"`
	}
	if raw, err := io.ReadAll(r.Body); err == nil {
		_ = json.Unmarshal(raw, &body)
	}
	return ErrorReport{Type: r.Header.Get(header), Message: body.Message}
}

func accept(w http.ResponseWriter, refused *apiError) {
	if refused != nil {
		refuse(w, refused)
		return
	}
	writeJSON(w, http.StatusAccepted, map[string]string{"status": "OK"})
}

func refuse(w http.ResponseWriter, e *apiError) { writeJSON(w, e.status, e) }

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that left needs no answer
}
