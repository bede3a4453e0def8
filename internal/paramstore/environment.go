// SPDX-License-Identifier: MPL-2.0

package paramstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// endpoint fills in what decides where requests go, and returns the host that
// this comes to. The client would resolve it at the first call only: asking its
// resolver now brings an impossible combination to light.
func endpoint(getenv func(string) string, opts *ssm.Options) (host string, err error) {
	opts.Region = cmp.Or(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"))
	switch {
	case opts.Region == "":
		return "", errors.New("AWS_REGION is not set")
	case strings.ContainsFunc(opts.Region, notOfRegion):
		return "", fmt.Errorf("AWS_REGION is %q, want a region such as us-east-1", opts.Region)
	}
	fips, err1 := envBool(getenv, "AWS_USE_FIPS_ENDPOINT")
	dualStack, err2 := envBool(getenv, "AWS_USE_DUALSTACK_ENDPOINT")
	base, err3 := baseEndpoint(getenv)
	if err := errors.Join(err1, err2, err3); err != nil {
		return "", err
	}
	if fips {
		opts.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
	}
	if dualStack {
		opts.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
	}
	opts.BaseEndpoint = base
	resolved, err := ssm.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), ssm.EndpointParameters{
		Region: &opts.Region, UseFIPS: &fips, UseDualStack: &dualStack, Endpoint: base,
	})
	if err != nil {
		return "", fmt.Errorf("no endpoint for region %q: %w", opts.Region, err)
	}
	return resolved.URI.Host, nil
}

// notOfRegion reports what cannot be in a region's name, which becomes a part
// of the endpoint's host.
func notOfRegion(r rune) bool {
	return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
}

// baseEndpoint is the endpoint configured in place of AWS's own, nil if none.
func baseEndpoint(getenv func(string) string) (*string, error) {
	ignore, err := envBool(getenv, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
	if err != nil || ignore {
		return nil, err
	}
	for _, name := range []string{"AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL"} {
		if v := getenv(name); v != "" {
			_, err := parseURL(name, v)
			return &v, err
		}
	}
	return nil, nil
}

func parseURL(variable, value string) (*url.URL, error) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("%s is %q, want a URL http://… or https://…", variable, value)
	}
	return u, nil
}

func envBool(getenv func(string) string, name string) (bool, error) {
	switch v := getenv(name); strings.ToLower(v) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, fmt.Errorf("%s is %q, want true or false", name, v)
	}
}

// newTLSConfig trusts the certificates of AWS_CA_BUNDLE instead of the system's,
// where it is set.
func newTLSConfig(getenv func(string) string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	file := getenv("AWS_CA_BUNDLE")
	if file == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading AWS_CA_BUNDLE: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("AWS_CA_BUNDLE %s has no certificates", file)
	}
	return cfg, nil
}
