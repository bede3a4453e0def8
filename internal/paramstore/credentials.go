// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
)

const (
	// credentialsTimeout bounds a request to the credentials endpoint, which is
	// on this machine. The SDK's cache detaches it from the caller's context.
	credentialsTimeout = 2 * time.Second
	// expiryWindow is how long before their end credentials are replaced: the
	// window that the SDK's own loader uses for this endpoint.
	expiryWindow = 5 * time.Minute
)

var (
	errNoCredentials = errors.New("no credentials in the environment")
	errNoKeys        = errors.New("the credentials endpoint answered without keys")
)

// credentialsError marks a failure to get credentials within an error of the SDK.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// envCredentials are the environment's keys, or else what the container
// endpoint gives. The environment is looked at at each use.
type envCredentials struct {
	getenv    func(string) string
	container aws.CredentialsProvider // nil: no endpoint configured
}

var _ aws.CredentialsProvider = (*envCredentials)(nil)

func newCredentials(getenv func(string) string, tlsConfig *tls.Config) (*envCredentials, error) {
	c := &envCredentials{getenv: getenv}
	var endpoint *url.URL
	var err error
	if v := getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"); v != "" {
		endpoint, err = parseURL("AWS_CONTAINER_CREDENTIALS_FULL_URI", v)
	} else if v := getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); v != "" {
		if !strings.HasPrefix(v, "/") {
			return c, fmt.Errorf("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is %q, want a path /…", v)
		}
		endpoint, err = parseURL("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "http://169.254.170.2"+v)
	}
	if err != nil || endpoint == nil {
		return c, err
	}
	provider := endpointcreds.New(endpoint.String(), func(o *endpointcreds.Options) {
		o.HTTPClient = credentialsClient(endpoint.Scheme, tlsConfig)
		o.Retryer = aws.NopRetryer{}
		o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(c.authorizationToken)
	})
	c.container = aws.NewCredentialsCache(provider, func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow = expiryWindow
	})
	return c, nil
}

// Retrieve implements aws.CredentialsProvider.
func (c *envCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	env := aws.Credentials{
		AccessKeyID:     c.getenv("AWS_ACCESS_KEY_ID"),
		SecretAccessKey: c.getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken:    c.getenv("AWS_SESSION_TOKEN"),
		Source:          "Environment",
	}
	switch {
	case env.HasKeys():
		return env, nil
	case c.container == nil:
		return aws.Credentials{}, &credentialsError{errNoCredentials}
	}
	creds, err := c.container.Retrieve(ctx)
	switch {
	case err != nil:
		return aws.Credentials{}, &credentialsError{err}
	case !creds.HasKeys():
		return aws.Credentials{}, &credentialsError{errNoKeys}
	}
	return creds, nil
}

// authorizationToken is read at each request to the endpoint: the file's
// content is replaced while we run.
func (c *envCredentials) authorizationToken() (string, error) {
	file := c.getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
	if file == "" {
		return c.getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"), nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// credentialsClient sends the authorization token in the clear only to
// addresses that do not leave the machine, and never to a proxy. The address is
// checked where it is dialled, after the name was resolved.
func credentialsClient(scheme string, cfg *tls.Config) *http.Client {
	d := &net.Dialer{Timeout: connectTimeout, KeepAlive: -1}
	t := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	if scheme == "https" {
		t.Proxy = http.ProxyFromEnvironment
	} else {
		d.Control = onlyLocal
	}
	t.DialContext = d.DialContext
	return &http.Client{Transport: t, CheckRedirect: noRedirect, Timeout: credentialsTimeout}
}

// containerHosts are the link-local addresses of the credentials endpoints of
// ECS and EKS.
var containerHosts = []netip.Addr{
	netip.MustParseAddr("169.254.170.2"),
	netip.MustParseAddr("169.254.170.23"),
	netip.MustParseAddr("fd00:ec2::23"),
}

func onlyLocal(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	host := a.Addr().Unmap()
	if host.IsLoopback() {
		return nil
	}
	for _, h := range containerHosts {
		if host == h {
			return nil
		}
	}
	return fmt.Errorf("credentials endpoint %s is not on this machine: use https", host)
}
