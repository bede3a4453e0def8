// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// An endpoint that is silent has nothing to do with signing in.
func TestASilentSTSIsNamed(t *testing.T) {
	t.Parallel()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // nobody accepts: the kernel takes the connections
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	endpoint := "http://" + ln.Addr().String()
	_, err = whoAmI(ctx, aws.Config{
		Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	})
	if err == nil || !strings.Contains(err.Error(), endpoint+" does not answer") || strings.Contains(err.Error(), "sso login") {
		t.Errorf("%v", err)
	}
}

func TestRefusedCredentialsAreAReasonToSignIn(t *testing.T) {
	t.Parallel()
	s := newTestSite(t)
	s.aws.Deny("sts:GetCallerIdentity")
	endpoint := s.aws.URL()
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", "")}
	if _, err := whoAmI(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "aws sso login") || strings.Contains(err.Error(), "does not answer") {
		t.Errorf("%v", err)
	}
}

func TestTheEndpointOfSTSIsSaidAsItIsAsked(t *testing.T) {
	t.Parallel()
	for region, want := range map[string]string{"eu-west-1": "https://sts.eu-west-1.amazonaws.com", "cn-north-1": "https://sts.cn-north-1.amazonaws.com.cn"} {
		if got := stsEndpoint(t.Context(), aws.Config{Region: region}); got != want {
			t.Errorf("%s: %s, want %s", region, got, want)
		}
	}
}
