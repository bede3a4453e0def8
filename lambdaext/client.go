// SPDX-License-Identifier: MPL-2.0

package lambdaext

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	// maxAnswer bounds the body of an answer, in bytes. The largest that the API gives is an INVOKE event of a few hundred.
	maxAnswer = 64 << 10
	// maxAnswerHeader bounds its header, in bytes. net/http would take 10 MB, in a process that shares 128 MB with a function.
	maxAnswerHeader = 16 << 10
)

// Header names of the Extensions API.
const (
	headerName       = "Lambda-Extension-Name"
	headerIdentifier = "Lambda-Extension-Identifier"
	headerErrorType  = "Lambda-Extension-Function-Error-Type"
)

// operation is one call of the API: its name in errors, and its request line.
type operation struct {
	name, method, path string
}

var (
	opRegister  = operation{"register", http.MethodPost, "/2020-01-01/extension/register"}
	opNext      = operation{"next", http.MethodGet, "/2020-01-01/extension/event/next"}
	opInitError = operation{"init error", http.MethodPost, "/2020-01-01/extension/init/error"}
	opExitError = operation{"exit error", http.MethodPost, "/2020-01-01/extension/exit/error"}
)

// Config says whose extension is registered where. Both fields are required.
type Config struct {
	// RuntimeAPI is the host:port in the variable AWS_LAMBDA_RUNTIME_API.
	RuntimeAPI string
	// Name is the name of the executable's file, without its folder. Lambda takes an extension under any other name
	// for an internal one, which is not told of SHUTDOWN.
	Name string
}

// validate catches what would otherwise be a request to the wrong place or a header that Lambda misreads.
func (c Config) validate() error {
	// An address that is more than host and port, as one with a user or a path, is not all of a URL's host.
	u, err := url.Parse("http://" + c.RuntimeAPI)
	if err != nil || u.Host != c.RuntimeAPI || u.Hostname() == "" || !validPort(u.Port()) {
		return fmt.Errorf("the runtime API's address %q is not host:port", c.RuntimeAPI)
	}
	if c.Name == "" || strings.ContainsAny(c.Name, "/\r\n") {
		return fmt.Errorf("the extension's name %q is not a file name", c.Name)
	}
	return nil
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// Client is one registered extension. Register makes it; the zero Client is of no use.
// Its methods may be called from several goroutines, and an error may be reported while another waits in Next.
type Client struct {
	transport *http.Transport
	base      string // scheme and authority of every URL
	id        string // the identifier that the API gave, sent with every call
}

// Register registers an external extension for events. What the answer says about the function is not read: all of it is in
// the extension's environment as well. With no events, the extension gets none and is killed without notice when the sandbox ends.
//
// A second registration fails with ErrState, a type of event that cannot be had with ErrEventType, and a sandbox
// that has failed with ErrContainer. Once it has returned without an error the caller closes the Client.
func Register(ctx context.Context, cfg Config, events ...EventType) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("lambdaext: register: %w", err)
	}
	c := &Client{transport: newTransport(), base: "http://" + cfg.RuntimeAPI}
	if err := c.register(ctx, cfg.Name, events); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) register(ctx context.Context, name string, events []EventType) error {
	request := struct {
		Events []EventType `json:"events"`
	}{append([]EventType{}, events...)} // never null
	header := http.Header{}
	header.Set(headerName, name)
	answer, _, err := c.call(ctx, opRegister, header, request)
	if err != nil {
		return err
	}
	if c.id = answer.Get(headerIdentifier); c.id == "" {
		return errors.New("lambdaext: register: the answer has no " + headerIdentifier)
	}
	return nil
}

// newTransport returns a transport for the API of one sandbox. It keeps as many idle connections to a host as net/http
// does, two: one that waited in Next and one that reported an error.
func newTransport() *http.Transport {
	dialer := net.Dialer{KeepAlive: -1} // probes that a freeze left unanswered would end a Next that is well
	return &http.Transport{
		Proxy:                  nil, // HTTP_PROXY is meant for the function's own calls
		DialContext:            dialer.DialContext,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

// Next says that the extension is done with the event before, the first time with its initialisation, and waits for
// the next event. It waits as long as ctx allows: the sandbox may be frozen meanwhile, so ctx should have no deadline.
//
// An event of a type that was not registered for, or that is not known, is returned like any other. Next asks again by
// itself only if a connection that had served before was closed without a byte of an answer.
func (c *Client) Next(ctx context.Context) (Event, error) {
	_, body, err := c.call(ctx, opNext, c.header(), nil)
	if err != nil {
		return Event{}, err
	}
	event, err := decodeEvent(body)
	if err != nil {
		return Event{}, fmt.Errorf("lambdaext: next: %w", err)
	}
	return event, nil
}

// InitError tells Lambda that the extension could not initialise, which fails the function's Init. It is allowed
// between Register and the first Next (ErrState otherwise). No call succeeds after it: the caller exits, not with 0.
//
// errType is free text on one line, by convention Extension.Reason; the message of err is shown in the function's log.
// Neither errType nor err may be empty.
func (c *Client) InitError(ctx context.Context, errType string, err error) error {
	return c.report(ctx, opInitError, errType, err)
}

// ExitError tells Lambda that the extension is about to exit with an error, at any time after Register.
// All else is as for InitError.
func (c *Client) ExitError(ctx context.Context, errType string, err error) error {
	return c.report(ctx, opExitError, errType, err)
}

func (c *Client) report(ctx context.Context, op operation, errType string, err error) error {
	header := c.header()
	header.Set(headerErrorType, errType)
	// A report that is repeated changes nothing, so net/http may repeat it where it would repeat a GET.
	// An empty list has that effect without a header on the wire.
	header["Idempotency-Key"] = []string{}
	_, _, callErr := c.call(ctx, op, header, struct {
		ErrorMessage string   `json:"errorMessage"`
		ErrorType    string   `json:"errorType"`
		StackTrace   []string `json:"stackTrace"`
	}{err.Error(), errType, []string{}})
	return callErr
}

// Close closes the connections that are not in use. A call under way ends by its own ctx.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// header returns the header of a call of a registered extension.
func (c *Client) header() http.Header {
	header := http.Header{}
	header.Set(headerIdentifier, c.id)
	return header
}

// call makes one request, with request as its JSON body unless that is nil, and returns the header and body of a
// successful answer. It reads every answer to its end, so that the connection can be used again, or else gives it up.
//
// It goes through the transport and not an http.Client, which would follow redirects.
func (c *Client) call(ctx context.Context, op operation, header http.Header, request any) (http.Header, []byte, error) {
	fail := func(doing string, err error) error { return fmt.Errorf("lambdaext: %s: %s: %w", op.name, doing, err) }
	var body io.Reader
	if request != nil {
		text, err := json.Marshal(request)
		if err != nil {
			return nil, nil, fail("writing the request", err)
		}
		body = bytes.NewReader(text)
		header.Set("Content-Type", "application/json")
	}
	req, err := http.NewRequestWithContext(ctx, op.method, c.base+op.path, body)
	if err != nil {
		return nil, nil, fail("making the request", err)
	}
	req.Header = header
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, nil, fail("asking the API", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// Its body is the bare connection, which ctx would not bound.
		return nil, nil, newAPIError(op.name, resp.StatusCode, nil)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if resp.StatusCode/100 != 2 {
		return nil, nil, newAPIError(op.name, resp.StatusCode, answer) // however much of it could be read
	}
	if err != nil {
		return nil, nil, fail("reading the answer", err)
	}
	if len(answer) > maxAnswer {
		return nil, nil, fmt.Errorf("lambdaext: %s: the answer is longer than %d bytes", op.name, maxAnswer)
	}
	return resp.Header, answer, nil
}
