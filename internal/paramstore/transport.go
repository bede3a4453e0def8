// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Bounds of the steps of one request. They add up to more than the attempt's
// 5 s on purpose: each alone says which step it was that failed.
const (
	// connectTimeout covers the name's resolution and the TCP handshake, one
	// SYN of which may be lost (it is sent again after 1 s).
	connectTimeout = 2 * time.Second
	// handshakeTimeout is four times what a TLS handshake takes in a function
	// with 128 MB.
	handshakeTimeout = 3 * time.Second
	// answerTimeout is a hundred times Parameter Store's usual latency. It is
	// also what a connection costs that died silently while it was idle.
	answerTimeout = 2 * time.Second
	// idleTimeout keeps the connection for the retries of a throttled start,
	// for which a handshake would be most of the work, and for a run of writes;
	// but not for the next refresh, minutes later, in between which a function
	// is usually frozen and its connections are forgotten by the network. When
	// a connection is about to be used again net/http compares the wall clock,
	// so that this holds after a freeze too, whichever clock stopped in it.
	idleTimeout = 15 * time.Second
)

// newTransport speaks HTTP/1.1 only, which is what Parameter Store offers: a
// connection that ran into a timeout is then closed, whereas one of HTTP/2
// stays in the pool.
func newTransport(cfg *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		// No TCP keepalives: a connection is idle for idleTimeout at most, and a
		// thaw would count the probes that a freeze swallowed.
		DialContext:           (&net.Dialer{Timeout: connectTimeout, KeepAlive: -1}).DialContext,
		TLSClientConfig:       cfg,
		TLSHandshakeTimeout:   handshakeTimeout,
		ResponseHeaderTimeout: answerTimeout,
		IdleConnTimeout:       idleTimeout,
	}
}

// noRedirect hands a redirect to the SDK as the answer, which makes it an
// error: neither service redirects, and signatures and tokens go nowhere else.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// wholeBody is the SDK's HTTP client. It hands net/http the request's body as
// bytes in memory, in place of the SDK's reader around them, for three reasons.
// The SDK closes its reader as soon as the answer begins; net/http, if it has
// not yet looked for the reader's end by then, takes that for a failed write
// and closes the connection under the answer. That is seldom on an idle machine
// and often at a small function's CPU share. Head and body then leave in one
// write, so in one TLS record. And a request that meets a connection which the
// server has closed meanwhile, in a freeze for instance, can be sent again by
// net/http. It does so for a GET; of a POST it must be told that repeating it
// changes nothing, as it does of one that reads.
type wholeBody struct{ client *http.Client }

// Do implements aws.HTTPClient.
func (w wholeBody) Do(req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		return w.client.Do(req)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, fmt.Errorf("reading request body: %w", err)
	}
	req = req.WithContext(req.Context()) // a copy: the SDK closes the body of its own
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	if strings.HasPrefix(req.Header.Get("X-Amz-Target"), "AmazonSSM.Get") {
		req.Header = req.Header.Clone()
		req.Header["Idempotency-Key"] = []string{} // net/http.Transport's sign; without a value it is not sent
	}
	return w.client.Do(req)
}
