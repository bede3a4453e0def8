// SPDX-License-Identifier: MPL-2.0

package awswire

import (
	"cmp"
	"fmt"
	"strings"
)

// Account is where resources live and who calls. Its zero value is made whole by Resolve.
type Account struct {
	// Partition is "aws", "aws-cn", "aws-us-gov". Empty: the region's.
	Partition string
	// Region is part of ARNs and of what signatures are scoped to. Empty: us-east-1.
	Region string
	// ID is the account's number. Empty: 123456789012.
	ID string
	// Caller is the ARN that denials name as the one who called. Empty: a role "fn-role" of the account.
	Caller string
}

// Resolve fills in what is empty.
func (a Account) Resolve() Account {
	a.Region = cmp.Or(a.Region, "us-east-1")
	a.Partition = cmp.Or(a.Partition, partition(a.Region))
	a.ID = cmp.Or(a.ID, "123456789012")
	a.Caller = cmp.Or(a.Caller, fmt.Sprintf("arn:%s:sts::%s:assumed-role/fn-role/fn", a.Partition, a.ID))
	return a
}

func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// ARN names a resource of a service in the account and region.
func (a Account) ARN(service, resource string) string {
	return "arn:" + a.Partition + ":" + service + ":" + a.Region + ":" + a.ID + ":" + resource
}

// Denied is IAM's refusal of an action ("ssm:GetParameter") on a resource's ARN, or on none in particular if that is "".
func (a Account) Denied(action, resource string) string {
	on := ""
	if resource != "" {
		on = " on resource: " + resource
	}
	return fmt.Sprintf("User: %s is not authorized to perform: %s%s because no identity-based policy allows the %s action",
		a.Caller, action, on, action)
}
