// SPDX-License-Identifier: MPL-2.0

// Mesh-function is a Lambda function that calls services of a Consul mesh. There
// is nothing of Consul in it: the extension listens on loopback, the function
// calls localhost. README.md describes the event it takes.
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/consul-lambda/consul-lambda/internal/doctor"
)

// Event says what to call; by default UPSTREAM_HTTP (a URL) and UPSTREAM_TCP (host:port).
type Event struct {
	Calls    []Call `json:"calls"`
	Repeat   int    `json:"repeat"`   // all calls so many times; 0 means once
	Parallel int    `json:"parallel"` // so many at a time; 0 means one after the other
	Doctor   bool   `json:"doctor"`   // make no call, and say what stands in the way of one
}

// Call is one exchange: an HTTP request (GET, or POST if it sends something), or
// one TCP connection: send, close that direction, read to the end.
type Call struct {
	HTTP      string `json:"http,omitempty"`      // URL
	TCP       string `json:"tcp,omitempty"`       // host:port
	Send      string `json:"send,omitempty"`      // what to send, or
	SendBytes int64  `json:"sendBytes,omitempty"` // how many random bytes, the same in every run
	DripMS    int    `json:"dripMs,omitempty"`    // pause before every 16 bytes sent, in milliseconds
}

// Result is what came of one call.
type Result struct {
	Upstream     string  `json:"upstream"`
	Status       int     `json:"status,omitempty"` // HTTP
	Reused       bool    `json:"reused"`           // HTTP: over a connection of an earlier call
	Milliseconds float64 `json:"ms"`
	Body         string  `json:"body,omitempty"` // the first KiB of what was received
	Bytes        int64   `json:"bytes"`
	SHA256       string  `json:"sha256"`
	SentBytes    int64   `json:"sentBytes"`
	SentSHA256   string  `json:"sentSha256"`
	Error        string  `json:"error,omitempty"`
}

// Response has the results in the order of the calls, round after round.
type Response struct {
	Results []Result `json:"results"`
}

// client outlives an invocation, and with it its idle connections: the next
// invocation need not connect.
var client = newClient()

func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = t.MaxIdleConns // the default, 2, drops what parallel calls opened
	return &http.Client{Transport: t}
}

func main() { lambda.Start(answer) }

// answer is handle, or the doctor's report.
func answer(ctx context.Context, e Event) (any, error) {
	if e.Doctor {
		return examine(ctx), nil
	}
	return handle(ctx, e)
}

// examine looks at the extension's configuration, which is the function's too, and at its
// way into the mesh. It ends early enough to answer before the function's time is up.
func examine(ctx context.Context) doctor.Report {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-200*time.Millisecond))
		defer cancel()
	}
	return doctor.Run(ctx, doctor.Config{Environ: os.Environ(), Beside: true})
}

// handle makes the calls. One that fails is a result and not an error, so that
// the others are seen too. ctx ends with the function's time.
func handle(ctx context.Context, e Event) (Response, error) {
	if len(e.Calls) == 0 {
		e.Calls = []Call{{HTTP: os.Getenv("UPSTREAM_HTTP")}, {TCP: os.Getenv("UPSTREAM_TCP"), Send: "hello"}}
		e.Calls = slices.DeleteFunc(e.Calls, func(c Call) bool { return c.HTTP == "" && c.TCP == "" })
	}
	calls := slices.Repeat(e.Calls, max(1, e.Repeat))
	results := make([]Result, len(calls))
	slots := make(chan struct{}, max(1, e.Parallel))
	var running sync.WaitGroup
	for i, c := range calls {
		slots <- struct{}{}
		running.Go(func() {
			results[i] = c.do(ctx)
			<-slots
		})
	}
	running.Wait()
	return Response{results}, nil
}

func (c Call) do(ctx context.Context) Result {
	r := Result{Upstream: cmp.Or(c.HTTP, c.TCP)}
	sent, received := &meter{sum: sha256.New()}, &meter{sum: sha256.New()}
	start := time.Now()
	exchange := c.overTCP
	if c.HTTP != "" {
		exchange = c.overHTTP
	}
	if err := exchange(ctx, &r, sent, received); err != nil {
		r.Error = err.Error()
	}
	r.Milliseconds = float64(time.Since(start).Microseconds()) / 1000
	r.Bytes, r.SHA256, r.Body = received.read()
	r.SentBytes, r.SentSHA256, _ = sent.read()
	return r
}

func (c Call) overHTTP(ctx context.Context, r *Result, sent, received io.Writer) error {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { r.Reused = info.Reused },
	})
	method, body := http.MethodGet, io.Reader(nil)
	if c.Send != "" || c.SendBytes > 0 {
		method, body = http.MethodPost, io.TeeReader(c.payload(), sent)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.HTTP, body)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	r.Status = answer.StatusCode
	_, err = io.Copy(received, answer.Body) // to the end, or the connection is not used again
	return err
}

func (c Call) overTCP(ctx context.Context, _ *Result, sent, received io.Writer) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", c.TCP)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // out of time: give up
	wrote := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, io.TeeReader(c.payload(), sent))
		wrote <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	if _, err = io.Copy(received, conn); err != nil {
		conn.Close() // the writer may be waiting for the peer
	}
	return errors.Join(err, <-wrote)
}

func (c Call) payload() io.Reader {
	var r io.Reader = strings.NewReader(c.Send)
	if c.SendBytes > 0 {
		r = io.LimitReader(rand.NewChaCha8([32]byte{}), c.SendBytes)
	}
	if c.DripMS > 0 {
		r = drip{r, time.Duration(c.DripMS) * time.Millisecond}
	}
	return r
}

// drip gives 16 bytes at a time, each after a pause.
type drip struct {
	r     io.Reader
	pause time.Duration
}

func (d drip) Read(p []byte) (int, error) {
	time.Sleep(d.pause)
	return d.r.Read(p[:min(16, len(p))])
}

// meter counts, hashes and keeps the first KiB of what is written to it. It is
// locked because a server may answer before it was sent everything.
type meter struct {
	mu   sync.Mutex
	n    int64
	sum  hash.Hash
	head []byte
}

func (m *meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n += int64(len(p))
	m.head = append(m.head, p[:min(len(p), 1<<10-len(m.head))]...)
	return m.sum.Write(p)
}

func (m *meter) read() (n int64, sha256 string, head string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n, hex.EncodeToString(m.sum.Sum(nil)), string(m.head)
}
