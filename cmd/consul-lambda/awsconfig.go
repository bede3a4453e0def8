// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/urfave/cli/v3"

	"github.com/consul-lambda/consul-lambda/internal/assemble"
	"github.com/consul-lambda/consul-lambda/registrator"
)

// awsFlags say whose account is meant. The rest of the SDK's environment, and its files, hold as they do for the AWS CLI.
func awsFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "region", Usage: "AWS region", DefaultText: "AWS_REGION, or the profile's"},
		&cli.StringFlag{Name: "profile", Usage: "profile of ~/.aws/config, single sign-on included", DefaultText: "AWS_PROFILE, or none"},
	}
}

// loadAWS returns the caller's AWS configuration, with a region.
func loadAWS(ctx context.Context, cmd *cli.Command) (aws.Config, error) {
	profile := cmd.String("profile")
	if (profile != "" || os.Getenv("AWS_PROFILE") != "") && os.Getenv("AWS_ACCESS_KEY_ID") != "" {
		return aws.Config{}, errors.New("a profile and AWS_ACCESS_KEY_ID are two identities: take one away (unset AWS_PROFILE, or AWS_ACCESS_KEY_ID)")
	}
	var options []func(*config.LoadOptions) error
	if profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	if region := cmd.String("region"); region != "" {
		options = append(options, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("loading the AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return aws.Config{}, errors.New("no AWS region: say --region, or set AWS_REGION")
	}
	return cfg, nil
}

// whoAmI asks AWS whose credentials these are. The error tells credentials that could not be had or are refused, for which one signs in,
// from an endpoint that cannot be reached.
func whoAmI(ctx context.Context, cfg aws.Config) (registrator.Owner, error) {
	const signIn = "(have you signed in, as with aws sso login?)"
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return registrator.Owner{}, fmt.Errorf("fetching AWS credentials: %w %s", err, signIn)
	}
	owner, err := assemble.WhoAmI(ctx, cfg)
	var network net.Error // a deadline is one, too
	switch {
	case err == nil:
		return owner, nil
	case errors.As(err, &network):
		return owner, fmt.Errorf("asking AWS whose credentials these are: %s does not answer: %w (is there a way to it from here, and is no AWS_ENDPOINT_URL in between?)",
			stsEndpoint(ctx, cfg), err)
	}
	return owner, fmt.Errorf("asking AWS whose credentials these are: %w %s", err, signIn)
}

// stsEndpoint is where the client asks, for people.
func stsEndpoint(ctx context.Context, cfg aws.Config) string {
	o := sts.NewFromConfig(cfg).Options()
	if o.BaseEndpoint != nil {
		return *o.BaseEndpoint
	}
	endpoint, err := o.EndpointResolverV2.ResolveEndpoint(ctx, sts.EndpointParameters{Region: &cfg.Region}.WithDefaults())
	if err != nil {
		return "STS in " + cfg.Region
	}
	return endpoint.URI.String()
}

// awsCause keeps of the SDK's error what AWS said, or the network: an error of decoding may quote the answer, which has the function's
// variables.
func awsCause(err error) error {
	var (
		api     smithy.APIError
		network *net.OpError
	)
	switch {
	case errors.As(err, &api):
		return fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage())
	case errors.As(err, &network):
		return network
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	return errors.New("the answer cannot be read")
}
