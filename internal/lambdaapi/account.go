// SPDX-License-Identifier: MPL-2.0

package lambdaapi

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/consul-lambda/consul-lambda/registrator"
)

// WhoAmI says whose credentials these are: the caller's AWS partition and account, and the configured region. It needs no
// permission (docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html).
func (a *Client) WhoAmI(ctx context.Context) (registrator.Owner, error) {
	c := a.call(call{op: "GetCallerIdentity", about: "of the caller", permission: "sts:GetCallerIdentity"})
	ctx, cancel := a.bound(ctx)
	defer cancel()
	out, err := a.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.Options) { o.Retryer = c })
	if err != nil {
		return registrator.Owner{}, failed(c, err)
	}
	// arn:aws:sts::123456789012:assumed-role/registrator/session
	parts := strings.SplitN(aws.ToString(out.Arn), ":", 3)
	owner := registrator.Owner{Region: a.region, Account: aws.ToString(out.Account)}
	if len(parts) == 3 && parts[0] == "arn" {
		owner.Partition = parts[1]
	}
	if owner.Partition == "" || owner.Account == "" || owner.Region == "" {
		return registrator.Owner{}, fmt.Errorf("GetCallerIdentity: no partition, account or region in the answer for region %q", a.region)
	}
	return owner, nil
}
